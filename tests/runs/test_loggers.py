"""metrics.csv and Weights & Biases: what is written, and that neither costs a run."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from callbacks import FinalValidation
from datamodules import Digits
from zoo.errors import ZooError
from zoo.models.vae import VAE
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,a\n0,1\nabc,2\n", "row 2 has the step 'abc'"),
        ("step,a\n-1,2\n", "row 1 has the step '-1'"),
        ("step,a\n1.0,2\n", "row 1 has the step '1.0'"),
        ("step,a\n,2\n", "row 1 has the step ''"),
        ("step,a\n9999999999999999999,2\n", "row 1 has the step"),
        ("step,a\n1,2,3\n", "row 1 has more values than columns"),
        ("epoch,a\n1,2\n", "no column 'step', but epoch, a"),
        ("step,a\n1,\udcff\n", "can't be read as a table"),
        ("step,a\n1,\0\n", None),
        ("", None),
        ("step,a\n", None),
    ],
)
def test_a_file_that_is_no_table_of_metrics(tmp_path, text, message):
    path = tmp_path / "metrics.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    if message is None:
        MetricsCSV(tmp_path)
        return
    with pytest.raises(ZooError) as error:
        MetricsCSV(tmp_path)
    lines = str(error.value).splitlines()
    assert message in lines[0] and str(path) in lines[0] and len(lines) == 2
    assert "Mend it" in lines[1]


def trained_rows(folder, logger, resume=None, steps=12, **options):
    """Train a little; the rows of the file, and the checkpoints that were written at every third batch."""
    torch.manual_seed(0)
    data = Digits(batch_size=256, seed=0)
    keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1, save_on_train_epoch_end=False)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=logger,
        callbacks=[FinalValidation(), keep],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **options,
    )
    model = VAE(data.spec, network="mlp", hidden=16, latent_dim=2)
    trainer.fit(model, data, ckpt_path=resume, weights_only=resume is not None)
    return rows(folder)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3}, {"check_val_every_n_epoch": 2}])
def test_rows_belong_to_checkpoints(tmp_path, options):
    """On the disk before the checkpoint is, whatever came after it; not lost, not twice, in whatever state the file is."""
    logger, seen = MetricsCSV(tmp_path, interval=1e6), {}
    after = logger.after_save_checkpoint
    logger.after_save_checkpoint = lambda it: seen.__setitem__(it._last_checkpoint_saved, rows(tmp_path)) or after(it)
    whole = trained_rows(tmp_path, logger, **options)
    assert [int(row["step"]) for row in whole] == list(range(1, 13))
    bytes_of_whole = (tmp_path / "metrics.csv").read_bytes()
    assert len(seen) == 4
    for path, at_checkpoint in seen.items():
        batches = int(path.rpartition("=")[2].removesuffix(".ckpt"))
        assert batches - 1 <= len(at_checkpoint) <= batches
        for text in (bytes_of_whole, at_checkpoint):  # of a run that went on, and of one that was killed
            if isinstance(text, bytes):
                (tmp_path / "metrics.csv").write_bytes(text)
            else:
                with (tmp_path / "metrics.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, at_checkpoint[0])
                    writer.writeheader()
                    writer.writerows(at_checkpoint)
            assert trained_rows(tmp_path, MetricsCSV(tmp_path), resume=path, **options) == whole
            assert (tmp_path / "metrics.csv").read_bytes() == bytes_of_whole


def test_rows_of_a_part_that_is_left_are_gone(tmp_path):
    """A run that goes on from an earlier checkpoint with another interval has no rows of what it left."""
    trained_rows(tmp_path, MetricsCSV(tmp_path), val_check_interval=1)
    path = tmp_path / "step=6.ckpt"
    found = trained_rows(tmp_path, MetricsCSV(tmp_path), resume=path, limit_val_batches=0)
    assert [bool(row["val/loss"]) for row in found] == 5 * [True] + 7 * [False], "the checkpoint is from before a validation"


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


def history(run: Path) -> list[dict]:
    """The rows of an offline run."""
    tool = Path(sys.executable).with_name("wandb")
    done = subprocess.run([tool, "leet", "inspect", "--json", run], capture_output=True, text=True, check=True, timeout=120)
    records = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    return [record["history"]["item"] for record in records if record["type"] == "history"]


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
    arguments = ("--wandb", "offline", "--trainer.log_every_n_steps", 1)
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
    # the validation of the fourth and of the eighth batch comes last
    assert first["summary"]["trainer/global_step"] == 4
    assert second["summary"]["trainer/global_step"] == 8
    assert first["summary"]["samples"]["_type"].startswith("images")
    with (folder / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert second["summary"]["train/jsd"] == pytest.approx(float(last["train/jsd"]))

    parts = [history(file) for file in files]
    numbers = [row["_step"] for part in parts for row in part]
    assert numbers == sorted(set(numbers)), "uploaded one after the other, none stands in another's place"
    trained = [row["trainer/global_step"] for part in parts for row in part if "train/jsd" in row]
    assert trained == list(range(1, 9))
    assert f"wandb sync {folder.resolve()}/wandb/offline-run-*" in out
