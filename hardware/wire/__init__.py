"""Byte decoders of the meters, one module per protocol: bytes in, readings out, no input or output of their own.

A decoder takes bytes as they arrive, in pieces of any size, and returns the readings that became complete. It never
raises: what does not belong to a good frame is dropped and counted in ``bad``, and the next good frame is found
again. The function below each decoder that reads one whole frame raises the protocol's own subclass of `WireError`.
"""
