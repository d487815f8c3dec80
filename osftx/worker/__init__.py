"""What one rank runs: a phase from its specification to its checkpoint (`python -m osftx.worker phase.yaml`)."""
