"""The names of the scores of generated answers. `evaluation/scorers.py` computes them."""

SCORES = ("exact_match", "contains", "json_equal", "regex", "numeric", "f1")
"""Values of `evaluation.sets.<name>.score`, besides import paths."""
