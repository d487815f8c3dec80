"""The phase store: every trained phase is kept under a fingerprint of all that decides its result, and used again.

`fingerprint` says what decides it, `entries` keeps it, `python -m osftx.store` manages it. Needs no torch.
"""
