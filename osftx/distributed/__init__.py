"""ZeRO-3 and its collective operations. No other package imports DeepSpeed."""
