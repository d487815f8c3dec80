"""ZeRO-3 and its collectives. The only package that imports DeepSpeed."""
