"""`python -m zoo.encode`: see `--help`."""

from zoo.cli.main import main

if __name__ == "__main__":
    main("encode")
