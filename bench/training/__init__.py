"""How a cell's fine-tuning spends less for the same result: what of the work is saved, and when that is exact."""
