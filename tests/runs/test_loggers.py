"""metrics.csv and Weights & Biases: what is written, and that neither costs a run."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo.runs.loggers import MetricsCSV, wandb_logger, wandb_mode


def rows(folder: Path) -> list[dict]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_per_step_and_a_column_per_metric(tmp_path):
    log = MetricsCSV(tmp_path)
    log.log_metrics({"train/loss": 1.5, "epoch": 0}, step=0)
    log.log_metrics({"val/loss": 2.5, "epoch": 0}, step=0)
    log.log_metrics({"train/loss": 0.5, "epoch": 1}, step=7)
    log.finalize("success")
    assert rows(tmp_path) == [
        {"step": "0", "epoch": "0", "train/loss": "1.5", "val/loss": "2.5"},
        {"step": "7", "epoch": "1", "train/loss": "0.5", "val/loss": ""},
    ]


def test_csv_goes_on_where_a_resumed_run_starts(tmp_path):
    first = MetricsCSV(tmp_path)
    for step in range(6):
        first.log_metrics({"a": step}, step=step)
    first.finalize("success")
    second = MetricsCSV(tmp_path)
    second.log_metrics({"b": 40}, step=4)
    second.finalize("success")
    assert [(row["step"], row["a"], row["b"]) for row in rows(tmp_path)] == [
        ("0", "0", ""),
        ("1", "1", ""),
        ("2", "2", ""),
        ("3", "3", ""),
        ("4", "", "40"),
    ]


def test_csv_survives_a_full_disk(tmp_path, monkeypatch):
    log = MetricsCSV(tmp_path, interval=0)
    log.log_metrics({"a": 1}, step=1)
    log.save()
    good = (tmp_path / "metrics.csv").read_bytes()
    monkeypatch.setattr(
        "csv.DictWriter.writerows", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    log.log_metrics({"a": 2}, step=2)
    with pytest.raises(OSError, match="No space left"):
        log.save()
    assert (tmp_path / "metrics.csv").read_bytes() == good


def test_wandb_mode(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_mode("auto") == "offline", "nobody is logged in"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password 0\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode("auto") == "online"
    assert [wandb_mode(asked) for asked in ("off", "offline", "online")] == ["off", "offline", "online"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("auto") == "off"


def test_a_broken_wandb_costs_a_line_and_not_the_run(tmp_path, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise RuntimeError("no core process\nsecond line")

    monkeypatch.setattr("wandb.init", fails)
    assert wandb_logger("offline", tmp_path, "gan", "digits", 0, {}, {}) is None
    assert capsys.readouterr().err == "W&B (offline) could not start: no core process. Going on with metrics.csv alone.\n"


def inspect(run: Path, *options: str) -> dict | list:
    """What W&B's own reader finds in an offline run's file."""
    tool = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [tool, "leet", "inspect", *options, "--json", run], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_an_offline_run_and_its_resumption_are_one_run(cli, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    arguments = ("--wandb", "offline", "--trainer.log_every_n_steps", 2)
    status, out, err = cli("fit", "--model", "gan", "--seed", 3, "--trainer.max_steps", 4, *arguments)
    assert status == 0, err
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    time.sleep(1)  # W&B names the file of an offline run by the second in which it started
    status, out, err = cli("fit", "--ckpt_path", folder / "checkpoints/last.ckpt", "--trainer.max_steps", 8)
    assert status == 0, err

    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    first, second = (inspect(file, "--summary") for file in files)
    assert first["run_id"] == second["run_id"] == (folder / "wandb/run_id.txt").read_text()
    assert (first["project"], first["name"]) == ("zoo", "gan-digits-s3")
    assert first["config"]["data"]["class_path"] == "datamodules.Digits"
    assert first["config"]["loss"] == second["config"]["loss"]
    # the validation of the fourth and of the eighth batch comes last; rows are numbered from 0
    assert first["summary"]["trainer/global_step"] == 3
    assert second["summary"]["trainer/global_step"] == 7
    assert first["summary"]["samples"]["_type"].startswith("images")
    with (folder / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert second["summary"]["train/jsd"] == pytest.approx(float(last["train/jsd"]))
