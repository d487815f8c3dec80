"""What was learned and what was kept: `heldout` measures one model on the ranks, `retention` sums up the run."""
