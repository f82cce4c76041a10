"""Models: build them by name, select their blocks, train and load their weights."""
