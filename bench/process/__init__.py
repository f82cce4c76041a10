"""One cell in a fresh process: launcher, child, messages, worker, prepare."""
