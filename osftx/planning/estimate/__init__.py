"""Estimates of what a phase needs.

The memory of a rank (`memory`, `state`, `step`) and disk space (`disk`) follow from shapes and settings alone: no
weights are read and no torch is imported, so a dry run can show them. `duration` needs a measured pace.
"""
