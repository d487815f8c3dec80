"""osftx: declarative multi-phase OSFT experiments on DeepSpeed ZeRO-3."""

__version__ = "0.1.0"
