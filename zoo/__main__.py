"""`python -m zoo`: the list of models and data sets; `python -m zoo fit ...` is `python -m zoo.fit ...`."""

from zoo.cli.main import run

if __name__ == "__main__":
    run()
