"""What is done in a measured window, one module per kind: a class with load, warm_up, execute and figures."""
