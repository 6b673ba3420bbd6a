"""The tables of docs/results.md and of studies' pages are those of results/, row by row, of runs that can be repeated."""

import csv
import hashlib
import runpy
import shlex

import pytest
from conftest import REPOSITORY

from zoo import registry, trained
from zoo.cli.command import Command
from zoo.experiments.analysis import analyze
from zoo.runs.stored import find_runs, read_run

RESULTS = REPOSITORY / "results"
COMPARE = runpy.run_path(str(RESULTS / "compare.py"))
STUDY = runpy.run_path(str(RESULTS / "study.py"))
STUDIES = [path for name in STUDY["STUDIES"] if (path := RESULTS / "studies" / f"{name}.csv").exists()]
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


def test_records_are_of_the_trained_models():
    """Of every registered model a finished run on digits, by its card's command, and the evaluation of what comes along."""
    runs = [read_run(folder) for folder in find_runs(RESULTS / "digits")]
    assert sorted(run.model for run in runs) == sorted(registry.MODELS)
    for run in runs:
        card = trained.read_card(f"{run.model}-digits")
        assert (run.state, run.problems, run.seed) == ("finished", [], card.seed)
        assert str(run.facts["command"]).startswith(card.command.partition(" --seed")[0].partition("'")[0])
        (evaluation,) = run.evaluations
        assert evaluation.content["checkpoint_sha256"] == card.sha256 == hashlib.sha256(card.path.read_bytes()).hexdigest()
        assert {name: evaluation.metrics[name] for name in card.metrics} == card.metrics
        assert evaluation.log_p() is not None or card.model == "gan"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_page_of_a_study(path):
    """It has the tables of its runs, and their figures."""
    page = (REPOSITORY / "docs" / f"{path.stem}_study.md").read_text()
    for name, table in STUDY["tables"](analyze([path])).items():
        assert table in page, name
    figures = {each.name for each in (REPOSITORY / "docs" / "pictures").glob(f"study-{path.stem}-*.png")}
    assert figures and all(f"](pictures/{name})" in page for name in figures)
