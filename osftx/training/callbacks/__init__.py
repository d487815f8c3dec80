"""Callbacks: what observes the training of a phase, osftx's own parts (metrics, validation, saves) and a user's."""

from osftx.training.callbacks.base import Callback, PhaseStatus

__all__ = ["Callback", "PhaseStatus"]
