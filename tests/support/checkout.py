"""Where the checkout is, whatever folder a test stands in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY_BASE = ROOT / "experiments" / "tiny" / "base"
