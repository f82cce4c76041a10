"""Methods: how to choose what to tune, given a cell. Each is a function in a module of its own."""
