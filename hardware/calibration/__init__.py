"""Calibration of meters: procedure, figures, profile, and a source corrected by its profile."""
