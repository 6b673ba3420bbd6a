"""Run folders that are read: whole, damaged, of earlier versions, hostile; and how fast."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY
from stored_runs import write_evaluation, write_run

from zoo.errors import ZooError
from zoo.runs.stored import find_runs, flat_config, read_run


def test_a_run(tmp_path):
    run = read_run(write_run(tmp_path / "vae-digits/1", seed=3, log_p=np.arange(4.0), metrics={"test/elbo": -2.5}))
    assert (run.model, run.data, run.seed, run.state, run.problems) == ("vae", "digits", 3, "finished", [])
    assert run.config == {"model": "vae", "model.lr": 0.001, "data": "digits", "data.batch_size": 64,
                          "trainer.max_steps": 100, "trainer.precision": None}  # fmt: skip
    assert run.curves["val/elbo"].steps.tolist() == [19, 59, 99]
    assert run.curves["train/loss"].values[-1] == 23
    assert run.clock.tolist() == [[20, 1280, 12], [100, 6400, 63]]
    assert run.facts["parameters"] == 1234
    (evaluation,) = run.evaluations
    assert evaluation.metrics == {"test/nll": -1.5, "test/elbo": -2.5}
    assert evaluation.log_p().tolist() == [0, 1, 2, 3]
    assert run.checkpoint == tmp_path / "vae-digits/1/checkpoints/best.ckpt"


@pytest.mark.parametrize(
    ("said", "state"),
    [("finished", "finished"), ("running", "unfinished"), ("stopped", "unfinished"), ("failed", "failed"),
     ("diverged", "diverged"), ("?", "unfinished")],
)  # fmt: skip
def test_how_it_ended(tmp_path, said, state):
    run = read_run(write_run(tmp_path / "vae-digits/1", state=said))
    assert (run.state, run.error) == (state, "out of memory" if said == "failed" else None)


@pytest.mark.parametrize(("rows", "state"), [(5, "finished"), (4, "unfinished"), (0, "unfinished")])
def test_how_a_run_without_a_record_ended(tmp_path, rows, state):
    """Of before there was run.json: it has as many batches as were asked for, or not."""
    folder = write_run(tmp_path / "vae-digits/1", state=None, rows=rows)
    assert read_run(folder).state == state
    (folder / "metrics.csv").write_text("step,val/elbo\n99,nan\n")
    assert read_run(folder).state == "diverged"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.csv", "step,a\n1,2,3\n", "line 2 has 3 values"),
        ("metrics.csv", "step,a\n1,x\n", "column a"),
        ("metrics.csv", "a,b\n1,2\n", "no table of metrics"),
        ("metrics.csv", "step,a\n1,\xff", "no table of metrics"),
        ("evaluation.json", "{", "is not JSON"),
        ("evaluation.json", "[]", "not results"),
        ("evaluation.json", '{"metrics": {"test/nll": "low"}}', "holds no metrics"),
        ("evaluation.json", '{"metrics": {}, "schema": 99}', "newer zoo"),
        ("evaluation.json", '{"metrics": {}, "protocol": {"a": 3}}', "protocol"),
        ("run.json", '{"clock": [[1, 2]]}', "clock"),
        ("run.json", "\0", "is not JSON"),
        ("config.yaml", "a: [", "is not YAML"),
        ("config.yaml", "!!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path, name, text, message):
    folder = write_run(tmp_path / "vae-digits/1", log_p=np.arange(4.0), metrics={})
    (folder / name).write_bytes(text.encode("latin-1"))
    run = read_run(folder)
    (problem,) = run.problems
    assert message in problem and str(folder / name) in problem and "\n" not in problem
    assert run.model == "vae" and run.data == "digits"
    assert bool(run.curves) == (name != "metrics.csv") and bool(run.evaluations) == (name != "evaluation.json")


@pytest.mark.parametrize("damage", ["missing", "other", "cut", "pickle", "bomb"])
def test_damaged_log_p(tmp_path, damage):
    folder = write_run(tmp_path / "vae-digits/1", log_p=np.arange(4.0), metrics={})
    path = folder / "evaluation.npz"
    match damage:
        case "missing":
            path.unlink()
        case "other":
            np.savez(path, log_p=np.arange(5.0))
        case "cut":
            path.write_bytes(path.read_bytes()[:100])
        case "pickle":
            np.savez(path, log_p=np.array([print], dtype=object))
        case "bomb":
            np.savez_compressed(path, log_p=np.zeros(10**6))
    with pytest.raises(ZooError, match="evaluate again"):
        read_run(folder).evaluations[0].log_p()


@pytest.mark.parametrize(("weights", "at", "stale"), [("last", 60, True), ("last", 100, False), ("best", 60, False)])
def test_an_evaluation_of_what_was_trained_since(tmp_path, weights, at, stale):
    folder = write_run(
        tmp_path / "vae-digits/1", metrics={"test/elbo": -1}, evaluation={"weights": weights, "trained_batches": at}
    )
    run = read_run(folder)
    assert len(run.evaluations) == 1
    assert [
        problem.endswith("is of batch 60, and training has gone on to 100: evaluate again.") for problem in run.problems
    ] == ([True] if stale else [])


def test_several_evaluations(tmp_path):
    folder = write_run(tmp_path / "vae-digits/1", metrics={"test/elbo": -1})
    write_evaluation(folder, {"test/elbo": -2}, weights="last", name="evaluation-last")
    assert [each.content["weights"] for each in read_run(folder).evaluations] == ["last", "best"]


def test_configurations_are_flat():
    config = {
        "model": {"class_path": "my.VAE", "init_args": {"kl": {"beta": 2.0}, "sizes": [3, [4]]}},
        "data": {"class_path": "datamodules.MNIST", "init_args": {"binarize": "static", "root": "/home/me", "seed": 1}},
        "trainer": {"devices": 4, "callbacks": [{"class_path": "callbacks.EMA", "init_args": {"decay": 0.9}}]},
        "seed_everything": 3,
    }
    flat = flat_config(config)
    assert flat == {
        "model": "my.VAE",
        "model.kl.beta": 2.0,
        "model.sizes": "3, [4]",
        "data": flat["data"],
        "data.binarize": "static",
        "trainer.callbacks": "EMA(decay=0.9)",
    }


def test_folders_of_runs_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        write_run(tmp_path / "study/vae-digits" / str(number))
    (tmp_path / "study/vae-digits/9/wandb").mkdir()
    (tmp_path / "study/vae-digits/9/wandb/config.yaml").write_text("")
    assert [path.name for path in find_runs(tmp_path)] == ["1", "9", "10"]
    assert find_runs(tmp_path / "study/vae-digits/9") == [tmp_path / "study/vae-digits/9"]
    assert find_runs(tmp_path / "nothing") == []


def test_a_thousand_runs_of_a_thousand_rows(tmp_path):
    """In a process of its own, whose memory and CPU time are its own: 1 GB and 20 seconds."""
    first = write_run(tmp_path / "1", options={"latent_dim": 8}, metrics={"test/elbo": -90.0})
    columns = ["step", "epoch", *(f"{split}/{name}" for split in ("train", "val") for name in ("loss", "elbo", "kl", "nll"))]
    values = np.random.default_rng(0).normal(size=(1000, 8))
    lines = [",".join([f"{i}", "0", *(f"{value:.12f}" for value in row)]) for i, row in enumerate(values)]
    (first / "metrics.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    trainer = {f"option_{i}": i for i in range(60)}  # as many lines as the command line stores
    config = yaml.safe_load((first / "config.yaml").read_text())
    texts = {name: (first / name).read_text() for name in ("metrics.csv", "run.json", "evaluation.json")}
    for i in range(1000):
        folder = tmp_path / "runs" / str(i)
        folder.mkdir(parents=True)
        config["seed_everything"], config["model"]["init_args"]["latent_dim"] = i % 20, i // 20
        config["trainer"] |= trainer
        (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML too
        for name, text in texts.items():
            (folder / name).write_text(text)
    code = (
        "import resource, sys\n"
        "from zoo.experiments.comparison import Comparison\n"
        "comparison = Comparison([sys.argv[1]], metrics=['elbo'])\n"
        "assert (len(comparison.runs), len(comparison.rows)) == (1000, 50)\n"
        "assert len(comparison.table(100)) > 1000 and 'torch' not in sys.modules\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"  # whose ru_maxrss is the parent's, where that is larger
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(used.ru_utime + used.ru_stime, int(peak.split()[1]) / 2**20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "runs"], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 20 and gigabytes < 1


@pytest.mark.parametrize("options", ["text", [1, 2], 3.5])
def test_options_that_are_none_are_left_out(tmp_path, options):
    """Of a class in a list of the configuration."""
    run = write_run(tmp_path / "1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["callbacks"] = [{"class_path": "callbacks.SampleGrid", "init_args": options}]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = read_run(run)
    assert found.problems == [] and found.config["trainer.callbacks"] == "SampleGrid()"
