"""Launching the ranks of a phase, on this machine or on several nodes, with or without an outer launcher."""
