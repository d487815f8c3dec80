"""Trains one phase on its ranks: batches, the step, saves, and the callbacks that observe the steps."""
