"""The run folder: its records, manifest and files, for the measuring and the reading wing."""

from bench.store.record import SCHEMA, Record
from bench.store.run_dir import RunDir

__all__ = ["SCHEMA", "Record", "RunDir"]
