"""Samples -> joules with uncertainty and grade."""
