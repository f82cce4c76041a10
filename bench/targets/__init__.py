"""Targets: where the work of a repeat runs: this machine, a board over ssh, a microcontroller on a port."""
