"""A run that is killed anywhere goes on bit for bit: every registered model, without a line of its own."""

import csv
import signal
import subprocess
import sys
from collections import Counter

import pytest
from conftest import REPOSITORY
from reliability.killing import ALL_KINDS, TABLE, Case, Kill, Reference, cases, check, rows_of, run, table

from zoo import registry

SAMPLE = [
    ("after a batch", 9),
    ("in a validation", 2),
    ("during the write of last.ckpt", 2),
    ("after an epoch's last batch", 1),
    ("before the renaming of metrics.csv", 3),
    ("SIGTERM in a validation", 2),
]


@pytest.mark.parametrize("number", range(len(registry.MODELS)), ids=registry.MODELS)
def test_a_sample(tmp_path, number):
    """One kill of one training of every model; the trainings differ."""
    name = list(registry.MODELS)[number]
    case = cases([name])[(7 * number + 2) % 16]
    kind, count = SAMPLE[number % len(SAMPLE)]
    reference = Reference(case, tmp_path / "whole")
    check(reference, Kill(kind, min(count, reference.points[kind])), tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", registry.MODELS)
def test_all(tmp_path, name):
    """The kills of the table, made anew."""
    made = [row for number, case in enumerate(cases([name])) for row in rows_of(case, tmp_path / str(number), 2)]
    text = [{key: str(value) for key, value in row.items()} for row in made]
    assert text == [row for row in kept() if row["model"] == name]


def kept() -> list[dict]:
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_everything():
    """Of every model each combination, every kind of kill, 200 kills and more; the page counts them."""
    rows = kept()
    assert len(rows) >= 200
    assert all(row["equal"] == "True" for row in rows)
    assert {row["model"] for row in rows} == set(registry.MODELS)
    trained = Counter(tuple(row[name] for name in list(row)[:6]) for row in rows)
    assert set(trained) == {tuple(str(value) for value in vars(case).values()) for case in cases()}
    assert {row["killed"] for row in rows} == set(ALL_KINDS)
    assert table(rows) in (REPOSITORY / "docs" / "reliability.md").read_text()


def test_a_difference_is_noticed(tmp_path):
    """The comparison is one: a run that goes on from another moment is not the same."""
    case = Case("gan", "max_steps", "epochs", averaged=False, warm_up=False, saves="epochs")
    reference = Reference(case, tmp_path / "whole")
    other = Reference(Case("gan", "max_epochs", "epochs", averaged=False, warm_up=False, saves="epochs"), tmp_path / "other")
    reference.result = other.result
    with pytest.raises(AssertionError, match=r"last\.ckpt"):
        check(reference, Kill("after a batch", 9), tmp_path / "killed")
    assert run(case, tmp_path / "other", kill=Kill("before a batch", 3))[0] == -signal.SIGKILL


@pytest.mark.slow
def test_the_command_line_goes_on(tmp_path):
    """``python -m zoo.fit`` in a process of its own, killed from outside some time after its first checkpoint."""
    command = [sys.executable, "-m", "zoo.fit", "--wandb", "off", "--trainer.log_every_n_steps", "1"]
    model = ["--model", "vae", "--model.hidden", "16", "--model.latent_dim", "2", "--trainer.max_epochs", "12"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "", "OMP_NUM_THREADS": "1"}
    files = {}
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        last = folder / "runs/vae-digits/1/checkpoints/last.ckpt"
        process = subprocess.Popen([*command, *model], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        while name == "killed" and not last.exists() and process.poll() is None:
            pass
        if name == "killed":
            process.kill()
            assert process.wait() == -signal.SIGKILL
            subprocess.run([*command, "--ckpt_path", last], cwd=folder, env=environment, check=True)
        assert name == "killed" or process.wait() == 0
        files[name] = (last.parent.parent / "metrics.csv").read_bytes()
    assert files["whole"] == files["killed"]
