"""Byte decoders of the meters, one module per protocol: bytes in, readings out, no input or output of their own.

A decoder is fed whatever arrived, in pieces of any size, and returns the readings that became complete. Feeding never
raises: what does not belong to a good frame is dropped and counted in ``bad``, and the next good frame is found
again. The function below each decoder that reads one whole frame raises the protocol's own subclass of `WireError`.
"""
