"""zeus-gpu: the energy counter of an AMD GPU, as far as zeus (0.16) reaches it with amdsmi.

When it starts, zeus compares the counter with the power for half a second and refuses a counter that disagrees by a
factor of ten, since some drivers leave its unit out. A card of two dies counts both on the first. torch calls AMD's
cards ``cuda``, too. Untried: no AMD GPU was at hand; only the shape of zeus's interface is tested.
"""

from __future__ import annotations

from hardware.source import Found, NotFound, Probe
from hardware.sources.nvml import NvmlSource, pick
from hardware.sources.parameters import numbers
from hardware.sources.quiet import silenced


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when amdsmi answers and zeus trusts the counter of the card that trains."""
    numbers("zeus-gpu", params, {})
    with silenced():  # AMD's library prints when its driver is absent
        from zeus.device.gpu import amdsmi_is_available, get_gpus, nvml_is_available

        if nvml_is_available():
            return NotFound("the cards here are NVIDIA's: use nvml")
        if not amdsmi_is_available():
            return NotFound("no AMD driver answers")
        cards = pick(get_gpus(), device)
    if isinstance(cards, NotFound):
        return cards
    gpus, index = cards
    if not gpus.supports_get_total_energy_consumption(index):
        return NotFound(f"zeus does not trust the energy counter of {gpus.get_name(index)}")
    source = NvmlSource(gpus, index, name="zeus-gpu")
    return Found(source, f"{source.info.device['model']} has an energy counter (through zeus; untried)")
