"""Sweeps: many runs as jobs, each of which leaves a record, with one table and one report of all of them at the end."""
