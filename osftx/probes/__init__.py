"""Passes over a model that measure something and train nothing. They run on the ranks."""
