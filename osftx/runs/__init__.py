"""Executes one run: makes its folder, and trains or reuses its phases one after the other."""
