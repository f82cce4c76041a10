"""Simulated instruments: meters without hardware, with the wire protocols of the real ones.

    waveform (known power, exact energy) -> front end (refresh, gain, rounding) -> instrument (frames, faults)
        -> a pseudo-terminal, a virtual port, a made-up /sys tree or a made-up vcgencmd

``python -m hardware.instruments um25c --load-w 5 --fault disconnect@20+5`` starts one and prints the port to use.
For the development and test of sources; nothing here is used in a real measurement.
"""

from hardware.instruments.faults import Fault, Faults
from hardware.instruments.instrument import FrontEnd, Instrument, Reading
from hardware.instruments.waveform import Waveform

__all__ = ["Fault", "Faults", "FrontEnd", "Instrument", "Reading", "Waveform"]
