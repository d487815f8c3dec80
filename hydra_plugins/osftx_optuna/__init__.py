"""Hyper-parameter search with Optuna (4 or later) as a Hydra sweeper: `hydra/sweeper=optuna`.

Hydra imports `sweeper.py` at every start, so it stays light; the modules with an underscore are left alone until a
search runs, and only they import Optuna.
"""
