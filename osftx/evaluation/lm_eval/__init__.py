"""Measures benchmarks of the lm-evaluation-harness on every state of the run, in a separate process.

`tasks` finds the benchmarks before the run starts, `measure` looks scores up in the phase store and has the rest
measured, `start` runs the process, and `__main__` is the process, the only module that imports the harness.
"""
