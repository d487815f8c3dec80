"""The Hydra plugin behind `hydra/sweeper=optuna`.

Hydra imports every module of this package at each start of the program, so it holds only a thin class. The search
itself is in `osftx.sweep.optuna`.
"""
