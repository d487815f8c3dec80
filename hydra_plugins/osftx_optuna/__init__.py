"""The Hydra plugin behind `hydra/sweeper=optuna`.

Hydra imports every module in here at each start of the program, so there is only a thin class; the search itself is
`osftx.sweep.optuna`.
"""
