"""The tables of docs/results.md and of studies' pages are those of results/, row by row, of runs that can be repeated."""

import hashlib
import re
import runpy

import pytest
from conftest import REPOSITORY

from zoo import registry, trained
from zoo.experiments.analysis import analyze
from zoo.experiments.comparison import Comparison
from zoo.experiments.statistics import holm, summarize, welch
from zoo.experiments.study_file import read_study
from zoo.experiments.study_runs import differing
from zoo.experiments.tables import markdown
from zoo.runs.stored import find_runs, read_run

RESULTS = REPOSITORY / "results"
STUDY = runpy.run_path(str(RESULTS / "study.py"))
STUDIES = [path for name in STUDY["STUDIES"] if (path := RESULTS / "studies" / f"{name}.csv").exists()]
PAGE = (REPOSITORY / "docs" / "results.md").read_text()
RECORDS = re.findall(r"python -m zoo.compare results/(\w+) (.*) --out", PAGE)  # of studies, and how they are compared


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
    seeds = len({run.seed for run in comparison.runs})
    runs = {run.name: run for run in read_study(study, seeds=seeds).runs} if study.exists() else {}
    for run in comparison.runs:
        assert run.state == "finished" and not run.problems
        assert not runs or differing(run.facts["command"], runs[run.folder.name].fit) is None


ALL_PARTS = "*attention=true*dequantization=variational filters=32*"  # Flow++ as its preset has it


@pytest.mark.parametrize(
    ("name", "baseline", "metric", "differences"),
    [
        (
            "dequantization",
            ALL_PARTS,
            "bits_per_dim",
            {"dequantization=uniform": (0.044, 1e-6), "coupling=affine": (0.098, 6e-8), "attention=false": (-0.011, 0.006)},
        ),
        (
            "dequantization",
            ALL_PARTS,
            "nll",
            {"dequantization=uniform": (0.91, 0.005), "coupling=affine": (4.2, 7e-16), "attention=false": (-0.35, 0.12)},
        ),
        (
            "posteriors_and_priors",
            "vae",
            "nll",
            {
                "prior=maf": (-3.0, 9e-7),
                "prior=spline": (-2.9, 3e-7),
                "sylvester": (-0.68, 0.052),
                "planar": (-0.085, 0.7),
                "iaf": (0.56, 0.2),
            },
        ),
        (
            "posteriors_and_priors",
            "vae",
            "elbo",
            {
                "prior=maf": (3.2, 2e-6),
                "prior=spline": (3.0, 2e-7),
                "sylvester": (0.081, 1),
                "planar": (-0.79, 0.006),
                "iaf": (0.16, 1),
            },
        ),
    ],
)
def test_what_the_page_says_of_differences(name, baseline, metric, differences):
    """Each effect and its p, to the digits that the page gives; every row of the table is named there."""
    (block,) = Comparison([RESULTS / name], metrics=[metric], baseline=baseline).blocks
    (column,), found = block.columns, {}
    for row, cell in column.cells.items():
        assert len(cell.values) == 6
        if row != column.reference:
            (key,) = (key for key in differences if key in row)
            found[key] = (cell.versus.effect, cell.p_corrected)
    assert found.keys() == differences.keys()
    for key, (effect, p) in differences.items():
        assert float(f"{found[key][0]:.2g}") == effect or round(found[key][0], 3) == effect, (key, found[key])
        assert float(f"{found[key][1]:.1g}") == p or float(f"{found[key][1]:.2g}") == p, (key, found[key])


def test_what_is_not_told_apart_is_so():
    """Sylvester's lower NLL, p just above .05, and the two flow priors, which are both printed bold."""
    (block,) = Comparison([RESULTS / "posteriors_and_priors"], metrics=["nll"]).blocks
    best = {row for row, cell in block.columns[0].cells.items() if cell.best}
    assert best == {"af_prior_vae prior=maf", "af_prior_vae prior=spline"}
    (block,) = Comparison([RESULTS / "posteriors_and_priors"], metrics=["nll"], baseline="vae").blocks
    (cell,) = (cell for row, cell in block.columns[0].cells.items() if "sylvester" in row)
    assert 0.05 < cell.p_corrected < 0.06 and cell.needed == 11


def test_active_units():
    """More of them with each of the five than with a Gaussian posterior and prior: Welch's test, Holm's correction."""
    (block,) = Comparison([RESULTS / "posteriors_and_priors"], metrics=["active_units"]).blocks
    cells = dict(block.columns[0].cells)
    vae = cells.pop("vae")
    means = {row: round(cell.summary.mean) for row, cell in cells.items()}
    assert sorted(means.values()) == [23, 29, 32, 32, 32] and round(vae.summary.mean) == 17
    p = dict(zip(cells, holm([welch(cell.values, vae.values).p for cell in cells.values()]), strict=True))
    assert all(each < 1.1e-4 or ("iaf" in row and round(each, 2) == 0.02) for row, each in p.items())


def test_what_was_published():
    """What the page says of the VAE that was trained as its source says."""
    (block,) = Comparison([RESULTS / "published"], metrics=["nll"]).blocks
    said = {published.name: text for published, text in block.published}
    assert said["VAE 784-400-40 (published)"] == "vae: not reproduced, 2.77 worse (one seed)"
    assert "not reproduced, 2.77 worse" in PAGE


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


def test_modes_of_stacked_mnist():
    """What the page says of one seed."""
    (folder,) = find_runs(RESULTS / "stacked_mnist")
    run = read_run(folder)
    (evaluation,) = run.evaluations
    assert run.facts["batches"] == evaluation.content["trained_batches"] == 35655
    assert evaluation.metrics["test/modes_stacked_mnist_cnn"] == 1000
    assert round(evaluation.metrics["test/kl_modes_stacked_mnist_cnn"], 3) == 0.037
    assert "batch 35,655" in PAGE and "all 1,000 modes, with a KL of 0.037" in PAGE


def test_models_of_the_small_study_are_trained():
    """By five scores every one of them lies above all untrained ones, as its page says, and by SAP not."""
    trained, untrained = (analyze([RESULTS / "studies" / f"{name}.csv"]).rows for name in ("small", "small_untrained"))
    assert (len(trained), len(untrained)) == (120, 5)
    for score in ("beta_vae_score", "factor_vae_score", "mig", "dci_disentanglement", "modularity"):
        assert min(row.numbers[score] for row in trained) > max(row.numbers[score] for row in untrained), score
    assert min(row.numbers["sap"] for row in trained) < min(row.numbers["sap"] for row in untrained)
    assert max(row.numbers["reconstruction"] for row in trained) < min(row.numbers["reconstruction"] for row in untrained)
