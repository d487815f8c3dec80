"""Benchmarks of the lm-evaluation-harness on every state of the run, in a process of their own.

`tasks` finds them before the start, `measure` asks the store and has the rest measured, `start` runs the process and
`__main__` is the process: the only place that imports the harness.
"""
