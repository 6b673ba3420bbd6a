"""`python -m zoo`: the list of models and data sets."""

from zoo.cli.main import list_zoo

if __name__ == "__main__":
    print(list_zoo())
