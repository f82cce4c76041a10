"""Simulated instruments: meters that nobody here owns, speaking their real wire protocols.

    waveform (known power, exact energy) -> front end (refresh, gain, rounding) -> instrument (frames, faults)
        -> a pseudo-terminal, a virtual port, a made-up /sys tree or a made-up vcgencmd

``python -m hardware.instruments um25c --load-w 5 --fault disconnect@20+5`` starts one and prints the port to use.
Written for those who develop or test a source; nothing here is used while something real is measured.
"""

from hardware.instruments.faults import Fault, Faults
from hardware.instruments.frontend import FrontEnd, Reading
from hardware.instruments.instrument import Instrument
from hardware.instruments.waveform import Waveform

__all__ = ["Fault", "Faults", "FrontEnd", "Instrument", "Reading", "Waveform"]
