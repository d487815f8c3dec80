"""Runs side by side: which method keeps more at the same learning? `python -m osftx.compare RUN RUN ...`

`runs` finds the runs, `same` refuses other experiments, `groups` puts seeds together, `curves` and `matched` find what
is kept at a level of learning, `statistics` says how sure that is, `sentences` puts it in words. Needs no torch.
"""
