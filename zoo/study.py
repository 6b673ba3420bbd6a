"""`python -m zoo.study`: see `--help`."""

from zoo.cli.main import main

if __name__ == "__main__":
    main("study")
