"""Methods of training a phase: each one is a folder. See `base`."""
