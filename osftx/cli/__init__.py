"""The command line: the Hydra application, its exit codes and what it shows of the data."""
