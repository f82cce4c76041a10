"""One file per meter or sensor. Each has ``probe(argument, params, device) -> Probe``."""
