"""Turns a configuration into a checked plan: what will run, on which data, with how much memory, disk and time.

It runs in the launching process and imports no torch.
"""
