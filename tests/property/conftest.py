"""The tokenizer and the chat templates of the unit tests serve the property tests too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "data"))
