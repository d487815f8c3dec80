"""From a configuration to a checked plan: what will run, on which data, with how much memory, disk and time.

Runs in the launching process and imports no torch.
"""
