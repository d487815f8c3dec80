"""Sweeps: many runs as jobs that leave a record each, and one table and one report of them at the end."""
