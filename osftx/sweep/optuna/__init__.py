"""Hyper-parameter search with Optuna 4 or later, the implementation behind `hydra/sweeper=optuna`.

`settings` is light and is imported at every start of the program. All other modules import Optuna and are loaded only
when a search runs.
"""
