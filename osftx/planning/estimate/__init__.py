"""Estimates of what a phase needs, from shapes and settings alone: memory of a rank, disk space, and time.

No weights are read and no torch is imported, so a dry run can show the estimates.
"""
