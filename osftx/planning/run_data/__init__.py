"""The data of a run: what each phase trains on, replays and validates on."""
