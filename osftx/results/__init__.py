"""What a run or a sweep left, read back: the only readers of run folders, and the retention table."""
