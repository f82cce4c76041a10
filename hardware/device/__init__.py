"""Facts about the machine that is measured, and how they change while it works."""

from hardware.device.machine import ROOT, DeviceFacts, Snapshot, cpu_times, facts, snapshot

__all__ = ["ROOT", "DeviceFacts", "Snapshot", "cpu_times", "facts", "snapshot"]
