"""The run folder: the one place where what measures and what reads meet."""

from bench.store.record import SCHEMA, Record
from bench.store.run_dir import RunDir

__all__ = ["SCHEMA", "Record", "RunDir"]
