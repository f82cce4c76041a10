"""Runs and published tables -> one frame."""
