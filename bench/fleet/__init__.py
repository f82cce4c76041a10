"""Fleets: many boards, each with its meter, that run a suite at the same time."""
