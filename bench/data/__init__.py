"""Datasets and their shifts: raw images -> a Domain (source and target) -> the seeded split of a cell."""
