"""Hyper-parameter search with Optuna 4 or later, the implementation behind `hydra/sweeper=optuna`.

`settings` is light and is imported whenever the program starts. All other modules import Optuna and are loaded only
when a search runs.
"""
