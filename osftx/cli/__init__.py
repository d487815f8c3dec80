"""The command line: the Hydra application, the execution of one run, and the display of its data."""
