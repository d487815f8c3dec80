"""Train one phase on the ranks of a ZeRO-3 group. Only `engine` (and osft's sharded parts) touch DeepSpeed."""
