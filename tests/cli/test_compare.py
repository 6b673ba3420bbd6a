"""`python -m zoo.compare`: what is typed, exit statuses, and runs of the zoo from beginning to end."""

import json
from pathlib import Path

import pytest
from stored_runs import write_run


@pytest.fixture
def runs(tmp_path):
    for i, mean in enumerate((82.0, 80.0)):
        for seed in range(3):
            write_run(tmp_path / "runs/vae-digits" / f"{3 * i + seed}", "vae", seed, {"latent_dim": 8 * (i + 1)},
                      metrics={"test/nll": mean + 0.1 * seed, "test/elbo": -mean})  # fmt: skip
    return tmp_path / "runs"


def test_a_table_and_files(cli, runs):
    status, out, err = cli("compare", runs, "--metrics", "nll", "--out", "comparison", "--all")
    assert status == 0, err
    assert "vae latent_dim=16  3" in out and "costs" in out
    assert out.splitlines()[-1].startswith("files: comparison/table.md")
    with open("comparison/comparison.json") as file:
        assert len(json.load(file)["cells"]) == 2


def test_exit_statuses(cli, runs):
    assert cli("compare", runs, "--strict")[0] == 0
    status, out, err = cli("compare", runs, "--baseline", "*=16", "--fail-if", "nll > baseline + ci")
    assert (status, err) == (1, "--fail-if nll > baseline + ci:\n  " + err.splitlines()[-1].strip() + "\n")
    assert cli("compare", runs, "--baseline", "*=16", "--fail-if", "nll < baseline")[0] == 0
    write_run(runs / "vae-digits/9", "vae", 0, {"latent_dim": 32}, metrics={"test/nll": 1.0}, evaluation={"weights": "last"})
    status, out, err = cli("compare", runs, "--strict")
    assert status == 2 and "--strict: not measured in one way: test/nll (2 ways)" in err and "weights last" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no run named"),
        (("nowhere",), "nowhere: no run there"),
        (("runs", "--metric", "nll"), "no option --metric. Did you mean --metrics?"),
        (("runs", "--filter", "vae"), "NAME=VALUE"),
        (("runs", "--samples", "-1"), "0 or more"),
        (("runs", "--fail-if", "nll"), "METRIC > EXPRESSION is needed"),
        (("runs", "--baseline", "gan"), "no row of that name"),
        (("wandb:me",), "wandb:ENTITY/PROJECT"),
    ],
)
def test_what_is_wrong_is_said(cli, runs, arguments, message):
    status, _, err = cli("compare", *arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) <= 2


def test_help(cli):
    status, out, _ = cli("compare", "--help")
    assert status == 0 and out.startswith("usage: python -m zoo.compare RUN... [options]")
    assert max(map(len, out.splitlines())) <= 130


def test_what_is_missing_is_evaluated(cli, run_folder):
    """Only that: the second time nothing is to be done, until the checkpoint is another one."""
    status, out, err = cli("compare", "runs")
    assert status == 0 and "not evaluated: python -m zoo.evaluate --ckpt runs" in out
    status, out, err = cli("compare", "runs", "--evaluate", "--samples", 3)
    assert status == 0, err
    assert "damaged" not in out
    assert "evaluating" in err and "test split" not in out and "not evaluated" not in out and "jsd" in out
    written = (run_folder / "evaluation.json").stat().st_mtime_ns
    status, out, err = cli("compare", "runs", "--evaluate", "--samples", 3)
    assert status == 0 and (run_folder / "evaluation.json").stat().st_mtime_ns == written and "evaluating" not in err
    with (run_folder / "evaluation.json").open() as file:
        content = json.load(file)
    content["checkpoint_sha256"] = "0" * 64
    (run_folder / "evaluation.json").write_text(json.dumps(content))
    cli("compare", "runs", "--evaluate")
    assert json.loads((run_folder / "evaluation.json").read_text())["checkpoint_sha256"] != "0" * 64


def test_training_examples_next_to_samples_stand_in_the_report(cli, run_folder):
    """On request, of the samples that are drawn; an evaluation without them leaves no old ones behind."""
    pictures = run_folder / "pictures"
    status, out, err = cli("compare", "runs", "--neighbors")
    assert status == 2 and "Give --out DIR" in err
    assert cli("compare", "runs", "--evaluate", "--out", "a")[0] == 0
    assert not (pictures / "evaluation_neighbors.png").exists()
    assert "next to them" not in Path("a/report.html").read_text()
    status, out, err = cli("compare", "runs", "--neighbors", "--out", "a")
    assert status == 0, err
    assert (pictures / "evaluation_neighbors.png").exists() and "next to them" in Path("a/report.html").read_text()
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    assert cli("evaluate", "--ckpt", checkpoint)[0] == 0
    assert not (pictures / "evaluation_neighbors.png").exists()
    status, out, err = cli("evaluate", "--ckpt", checkpoint, "--neighbors")
    assert status == 0 and "evaluation_neighbors.png" in out, err
