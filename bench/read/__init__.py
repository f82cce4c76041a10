"""Read runs and published tables into one frame."""
