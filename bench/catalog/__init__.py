"""The names that a suite may use: datasets, models, checkpoints, published tables. Imports neither numpy nor torch."""
