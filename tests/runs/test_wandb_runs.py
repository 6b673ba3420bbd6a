"""W&B: what a real offline run holds, read back; runs of a server that is not there."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.experiments.comparison import Comparison, find
from zoo.runs.wandb_runs import read_offline, read_wandb


def records(file: Path) -> list[dict]:
    tool = Path(sys.executable).with_name("wandb")
    done = subprocess.run([tool, "leet", "inspect", "--json", file], capture_output=True, text=True, check=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def test_a_run_its_evaluation_and_what_is_read_of_them(cli, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    typed = ("--model", "vae", "--model.network", "mlp", "--model.hidden", 8, "--seed", 3, "--wandb", "offline")
    trainer = ("--trainer.max_steps", 42, "--trainer.check_val_every_n_epoch", 1, "--trainer.log_every_n_steps", 5)
    status, out, err = cli("fit", *typed, *trainer)
    assert status == 0, err
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    defined = [record["metric"] for record in records(file) if record["type"] == "metric"]
    named = {metric.get("name") or metric.get("glob_name"): metric for metric in defined}
    assert named["trainer/global_step"]["options"]["defined"]
    assert named["*"]["step_metric"] == "trainer/global_step", "batches are the axis of every curve"
    assert "val/elbo" in named and named["val/elbo"]["summary"], "the best value is the summary"

    status, out, err = cli("evaluate", "--ckpt", folder / "checkpoints/best.ckpt", "--samples", 2, "--examples", 20)
    assert status == 0 and "W&B" not in err, err
    assert len(list((folder / "wandb").glob("offline-run-*/*.wandb"))) == 2
    stored = json.loads((folder / "evaluation.json").read_text())

    (folder / "config.yaml").rename(folder / "kept.yaml")  # else it is a run folder, which is read as such
    (run,) = find([folder])
    assert (run.model, run.data, run.seed, run.state, run.problems) == ("vae", "digits", 3, "finished", [])
    assert run.name.startswith("vae-digits-s3")
    assert run.config["model.hidden"] == 8 and run.config["trainer.max_steps"] == 42
    assert run.curves["val/elbo"].steps.tolist() == [21, 42]
    (evaluation,) = run.evaluations
    assert evaluation.metrics == pytest.approx(dict(stored["metrics"].items()))
    assert evaluation.content["protocol"] == stored["protocol"] and evaluation.content["weights"] == "best"
    column = Comparison([run]).blocks[0].columns[0]
    assert (column.metric, column.protocol) == ("test/nll", stored["protocol"]["test/nll"])


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "run-x.wandb").write_bytes(b"nonsense")
    (run,) = read_offline([tmp_path / "run-x.wandb"])
    assert run.state == "unfinished" and "run-x.wandb" in run.problems[0]


def server(runs):
    class Api:
        def runs(self, path, filters=None):
            assert path == "me/zoo"
            return [run for run in runs if not filters or run.group == filters["group"]]

    return types.SimpleNamespace(Api=Api)


def run_of(name, group="vae-digits", state="finished", **summary):
    config = {"seed_everything": 1, "model": {"class_path": "zoo.models.VAE", "init_args": {"lr": 0.1}},
              "data": {"class_path": "datamodules.Digits", "init_args": {}}}  # fmt: skip
    history = [
        {"trainer/global_step": i, "val/elbo": -90 - i, "_step": 1000 * i, "samples": {"_type": "x"}} for i in range(3)
    ]
    return types.SimpleNamespace(
        name=name, group=group, state=state, config=config, summary=summary, scan_history=lambda: iter(history)
    )


def test_runs_of_a_server(monkeypatch):
    found = [run_of("a", **{"test/elbo": -91.0}), run_of("b", group="gan-digits"), run_of("c", state="crashed")]
    monkeypatch.setitem(sys.modules, "wandb", server(found))
    runs = read_wandb("me/zoo")
    assert [(run.name, run.state) for run in runs] == [
        ("wandb:me/zoo/a", "finished"),
        ("wandb:me/zoo/b", "finished"),
        ("wandb:me/zoo/c", "failed"),
    ]
    assert runs[0].curves["val/elbo"].steps.tolist() == [0, 1, 2] and runs[0].config["model.lr"] == 0.1
    assert runs[0].evaluations[0].metrics == {"test/elbo": -91.0} and runs[1].evaluations == []
    assert [run.name for run in find(["wandb:me/zoo/vae-digits"])] == ["wandb:me/zoo/a", "wandb:me/zoo/c"]
    for address, message in (("me/zoo/nothing", "no run there"), ("zoo", "ENTITY/PROJECT"), ("you/zoo", "can't be read")):
        with pytest.raises(ZooError, match=message):
            read_wandb(address)
