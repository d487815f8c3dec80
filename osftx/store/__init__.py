"""The phase store: keeps every trained phase under a fingerprint of all that decides its result, and reuses it.

`fingerprint` computes the fingerprints, `entries` keeps the phases, `python -m osftx.store` manages the store. None of
them needs torch.
"""
