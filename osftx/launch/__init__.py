"""Launching the ranks of a phase: on this machine or on several nodes, under an outer launcher or alone."""
