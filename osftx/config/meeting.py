"""What the launching process tells the ranks of one machine about the place where they meet."""

STORE_FILE = "OSFTX_STORE_FILE"
"""Environment variable with the path of the file through which all ranks of this machine meet. Without it they meet at
the host and port that a launcher has put into the environment."""
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Hosts of an endpoint that only processes of the same machine reach."""
