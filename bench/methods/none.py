"""None: the source model as it is."""

from __future__ import annotations

from bench.methods import Adapted, Method, Options, UnlabelledTask

METHOD = Method(name="none", about="leaves the source model as it is", labels="unused", idle=True)


def adapt(task: UnlabelledTask, options: Options) -> Adapted:
    """Do nothing."""
    return Adapted()
