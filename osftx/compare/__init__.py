"""Comparison of runs: which method keeps more at the same learning? `python -m osftx.compare RUN RUN ...`

`runs` finds the runs, `same` rejects runs of different experiments, `groups` puts seeds together, `curves` and
`matched` find what is kept at a level of learning, `statistics` computes the confidence intervals, and `sentences`
describes the result in words. The package does not need torch.
"""
