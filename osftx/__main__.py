"""`python -m osftx +experiment=NAME [overrides]`: see `osftx.cli.app`."""

from osftx.cli.app import main

if __name__ == "__main__":
    main()
