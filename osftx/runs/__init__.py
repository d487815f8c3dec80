"""One run: its folder, its phases one after the other, trained or reused."""
