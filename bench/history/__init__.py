"""History: many runs of one device, a series per condition, and the first run in which a change appears.

folders -> summary (kept in the index) -> nights -> series -> steps (noise, local_level) -> changes -> show.
A condition is data, train size and arm; one run is one night; a night has one value per condition.
"""

from bench.history.changes import Change
from bench.history.history import Fresh, History, history
from bench.history.nights import Choice

__all__ = ["Change", "Choice", "Fresh", "History", "history"]
