"""The command line: the Hydra application, one run of it, and what it shows of the data."""
