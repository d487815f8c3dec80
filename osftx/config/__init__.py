"""The configuration as typed objects, facts derived from it about the phases, and the names of all files of a run.

It imports no torch.
"""
