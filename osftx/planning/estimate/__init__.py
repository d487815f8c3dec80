"""What a phase will need, from shapes and settings alone: memory of a rank (`state`, `step`) and room on the disk.

No weights are read and no torch is imported, so a dry run can tell it.
"""
