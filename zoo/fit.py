"""`python -m zoo.fit`: see `--help`."""

from zoo.cli.main import main

if __name__ == "__main__":
    main("fit")
