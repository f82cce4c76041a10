"""A run in its folder: plan, runner, session, metering, progress."""
