"""Phases on real ranks."""

from rank_fixtures import ranks, run_phase

__all__ = ["ranks", "run_phase"]
