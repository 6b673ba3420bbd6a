"""`python -m zoo.compare`: see `--help`."""

from zoo.cli.main import main

if __name__ == "__main__":
    main("compare")
