"""The configuration as typed objects, what it says about the phases, and the names of all files that a run leaves.

Imports no torch.
"""
