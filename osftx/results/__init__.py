"""Reading back what a run or a sweep wrote: the only readers of run folders, and the retention table."""
