"""Methods: how a model is adapted, one file each, found without a list.

A file has METHOD, what is known before a model is there, and `adapt(task, options)`, which changes the task's model.
It imports torch inside `adapt`, so that `jouletune --help`, `ls` and `validate` stay fast. Where `METHOD.labels` is
`needed` the task is a `Task`, with labelled training and validation images; otherwise it is an `UnlabelledTask`.
"""

from bench.catalog.methods import Method, Options
from bench.training.task import Adapted, Task, UnlabelledTask

__all__ = ["Adapted", "Method", "Options", "Task", "UnlabelledTask"]
