"""Phases on real ranks. The folders of the reports' unit tests serve the browser's tests too."""

import sys
from pathlib import Path

from rank_fixtures import ranks, run_phase

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "report"))

__all__ = ["ranks", "run_phase"]
