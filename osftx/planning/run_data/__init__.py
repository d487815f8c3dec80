"""The data of a run: what each phase trains on, validates on and replays, and what must be kept."""
