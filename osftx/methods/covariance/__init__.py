"""Second moments of the inputs of linear layers: measured, stored compactly, carried from phase to phase."""
