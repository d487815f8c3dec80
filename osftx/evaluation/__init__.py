"""Measures what was learned and what was kept, on evaluation sets (`held_out`) and on benchmarks (`lm_eval`)."""
