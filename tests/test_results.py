"""The tables of docs/results.md are those of the files in results/, row by row, and these name runs that can be repeated."""

import csv
import runpy
import shlex

import pytest
from conftest import REPOSITORY

from zoo.cli.command import Command

RESULTS = REPOSITORY / "results"
COMPARE = runpy.run_path(str(RESULTS / "compare.py"))
TABLES = sorted(RESULTS.glob("*.csv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_page_has_the_table(path):
    assert COMPARE["table"](path) in (REPOSITORY / "docs" / "results.md").read_text()


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_rows_are_of_methods_that_the_script_runs(path):
    commands = {method.name: f"python -m zoo.fit {method.arguments}" for method in COMPARE["COMPARISONS"][path.stem].methods}
    rows = list(csv.DictReader(path.open()))
    assert {row["method"]: row["command"] for row in rows} == {row["method"]: commands[row["method"]] for row in rows}
    assert len({(row["method"], row["seed"]) for row in rows}) == len(rows)
    for command in commands.values():
        Command(shlex.split(command)[3:])  # arguments that the command line knows
