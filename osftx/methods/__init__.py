"""Methods of training a phase, each in its own folder. `base` defines the protocol."""
