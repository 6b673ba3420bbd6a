"""The tables of docs/results.md and of studies' pages are those of results/, row by row, of runs that can be repeated."""

import csv
import hashlib
import re
import runpy
import shlex
from collections import defaultdict

import pytest
from conftest import REPOSITORY

from zoo import registry, trained
from zoo.cli.command import Command
from zoo.experiments.analysis import analyze
from zoo.experiments.comparison import Comparison
from zoo.experiments.statistics import holm, summarize, welch
from zoo.experiments.study_file import read_study
from zoo.experiments.study_runs import differing
from zoo.experiments.tables import markdown
from zoo.runs.stored import find_runs, read_run

RESULTS = REPOSITORY / "results"
COMPARE = runpy.run_path(str(RESULTS / "compare.py"))
STUDY = runpy.run_path(str(RESULTS / "study.py"))
STUDIES = [path for name in STUDY["STUDIES"] if (path := RESULTS / "studies" / f"{name}.csv").exists()]
TABLES = [RESULTS / f"{name}.csv" for name in COMPARE["COMPARISONS"]]
PAGE = (REPOSITORY / "docs" / "results.md").read_text()
RECORDS = re.findall(r"python -m zoo.compare results/(\w+) (.*) --out", PAGE)  # of studies, and how they are compared


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_page_has_the_table(path):
    assert COMPARE["table"](path) in PAGE


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_rows_are_of_methods_that_the_script_runs(path):
    commands = {method.name: f"python -m zoo.fit {method.arguments}" for method in COMPARE["COMPARISONS"][path.stem].methods}
    rows = list(csv.DictReader(path.open()))
    assert {row["method"]: row["command"] for row in rows} == {row["method"]: commands[row["method"]] for row in rows}
    assert len({(row["method"], row["seed"]) for row in rows}) == len(rows)
    for command in commands.values():
        Command(shlex.split(command)[3:])  # arguments that the command line knows


@pytest.mark.parametrize(
    ("name", "metric", "told"),
    [
        ("likelihoods", "nll", {"af_prior", "spline_af_prior"}),
        ("likelihoods", "active_units", {"planar", "af_prior", "spline_af_prior", "sylvester"}),
        ("dequantization", "bits_per_dim", {"affine"}),
    ],
)
def test_what_three_seeds_tell_apart(name, metric, told):
    """The page's sentences: Welch's test against the first method, Holm's correction over the others."""
    values = defaultdict(list)
    for row in csv.DictReader((RESULTS / f"{name}.csv").open()):
        values[row["method"]].append(float(row[metric]))
    first, *others = values
    assert {len(each) for each in values.values()} == {3}
    p = holm([welch(values[each], values[first]).p for each in others])
    assert {each for each, corrected in zip(others, p, strict=True) if corrected < 0.05} == told


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
def test_section_of_a_study(path):
    """It is what the script makes of its runs, with its figures."""
    before, after = STUDY["marks"](path.stem)
    text = STUDY["PAGE"].read_text().partition(before)[2].partition(after)[0]
    assert text.strip() == STUDY["section"](analyze([path]), path.stem).strip()
    assert all((STUDY["PICTURES"] / f"study-{path.stem}-{figure}.png").is_file() for figure in STUDY["FIGURES"])


@pytest.mark.parametrize(("name", "options"), RECORDS, ids=[name for name, _ in RECORDS])
def test_page_has_the_table_of_records(name, options):
    """As its command makes it; of finished runs, each with the settings that the file of its study has."""
    (metrics,) = re.findall(r"--metrics (\S+)", options)
    comparison = Comparison([RESULTS / name], metrics=metrics.split(","))
    lines = [line for line in markdown(comparison).splitlines() if line.startswith("|")]
    assert lines and all(line in PAGE for line in lines)
    study = REPOSITORY / "configs" / "studies" / f"{name}.yaml"
    runs = {run.name: run for run in read_study(study, seeds=3).runs} if study.exists() else {}
    for run in comparison.runs:
        assert run.state == "finished" and not run.problems
        assert not runs or differing(run.facts["command"], runs[run.folder.name].fit) is None


def test_what_was_published():
    """What the page says of the VAE that was trained as its source says."""
    (block,) = Comparison([RESULTS / "published"], metrics=["nll"]).blocks
    said = {published.name: text for published, text in block.published}
    assert said["VAE 784-400-40 (published)"] == "vae: not reproduced, 3.14 worse (one seed)"
    assert "not reproduced, 3.14 worse" in PAGE


def test_all_modes_are_found():
    """What the page says of three seeds."""
    shares = {}
    for folder in find_runs(RESULTS / "gan_modes"):
        (evaluation,) = read_run(folder).evaluations
        modes = 25 if "grid" in folder.name else 8
        assert evaluation.metrics["test/modes_points"] == modes
        assert evaluation.metrics["test/kl_modes_points"] < 0.01
        shares.setdefault(modes, []).append(evaluation.metrics["test/near_modes_points"])
    for modes, share in ((25, 0.91), (8, 0.97)):
        found = summarize(shares[modes])
        assert len(shares[modes]) == 3 and round(found.mean, 2) == share and found.high < 0.9878


def test_models_of_the_small_study_are_trained():
    """By five scores every one of them lies above all untrained ones, as its page says, and by SAP not."""
    trained, untrained = (analyze([RESULTS / "studies" / f"{name}.csv"]).rows for name in ("small", "small_untrained"))
    assert (len(trained), len(untrained)) == (120, 5)
    for score in ("beta_vae_score", "factor_vae_score", "mig", "dci_disentanglement", "modularity"):
        assert min(row.numbers[score] for row in trained) > max(row.numbers[score] for row in untrained), score
    assert min(row.numbers["sap"] for row in trained) < min(row.numbers["sap"] for row in untrained)
    assert max(row.numbers["reconstruction"] for row in trained) < min(row.numbers["reconstruction"] for row in untrained)
