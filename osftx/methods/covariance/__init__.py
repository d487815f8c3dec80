"""Input covariance of linear layers: measured, stored as Cholesky factors, and passed from phase to phase."""
