"""Firmware: code for a microcontroller that infers and trains, its arithmetic in Python, and the host's side of it."""
