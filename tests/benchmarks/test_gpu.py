"""The command for a GPU's minutes, walked through on a CPU: every part's rows, what fails, what goes on."""

import csv
import os
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from benchmarks.gpu import contract, jobs, sampling, shards, stacked
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import Bench, halved
from benchmarks.gpu.cases import build, paper_cases, pixels, small_cases
from benchmarks.gpu.host_noise import HostNoise
from benchmarks.gpu.jobs import all_jobs
from benchmarks.gpu.page import NONE_YET, tables
from benchmarks.gpu.remaining import note_remaining
from benchmarks.gpu.rows import TABLES, Rows
from benchmarks.gpu.summary import LINES
from benchmarks.gpu.timebox import Clock, OutOfTime, time_limit
from benchmarks.gpu.training import train
from zoo import registry
from zoo.spec import Batch


def bench(folder: Path, **options) -> Bench:
    clock = Clock(600, {"part": 1}, {})
    return Bench("cpu", True, Rows(folder, "CPU", torch.__version__, 0), clock, folder, folder / "none", **options)


def rows(folder: Path, table: str) -> list[dict]:
    with (folder / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_walk(tmp_path, monkeypatch, capsys):
    """A minute of a CPU of its own: rows of every part, and a part made to fail that costs nothing but itself."""
    monkeypatch.setattr(sampling, "run", lambda bench: 1 / 0)
    start = time.monotonic()
    main(["--minutes", "1.7", "--tiny", "--device", "cpu", "--data-root", str(tmp_path), "--out", str(tmp_path / "out")])
    assert time.monotonic() - start < 120
    checks, speed, training = (rows(tmp_path / "out", table) for table in ("checks", "speed", "training"))

    remaining = {row["what"]: row for row in rows(tmp_path / "out", "remaining")}

    def every_model(part: str, found: list[dict]) -> None:
        """Each has a row, or, on a busy machine, is named among what there was no time for."""
        left = next((what.removeprefix(f"{part}: ") for what in remaining if what.startswith(f"{part}:")), "")
        assert {row["model"] for row in found} | set(left.split(", ")) - {""} == set(registry.MODELS)
        assert "ok" in {row["status"] for row in found} <= {"ok", "out of time"}

    every_model("selfcheck", [row for row in checks if row["check"] == "one step"])
    for mode in ("float32", "bf16"):
        every_model(f"contract {mode}", [row for row in checks if row["check"] == f"{mode}, gradients beside the CPU"])
        every_model(f"throughput {mode}", [row for row in speed if row["part"] == "throughput" and row["mode"] == mode])
    kinds = {row["check"].partition(",")[0] for row in checks if row["part"] == "contract"}
    left = {what.partition(":")[0].removeprefix("contract ") for what in remaining}
    assert kinds | left >= {"same seed twice", "compiled"}
    assert kinds >= {"data on the host", "bf16-mixed"} or "same seed twice" in left
    fast = [row for row in speed if row["part"] == "throughput" and row["status"] == "ok" and row["mode"] != "compiled"]
    assert all(float(row["images_per_second"]) > 0 and float(row["by_hand_images_per_second"]) > 0 for row in fast)
    assert {row["part"] for row in speed if row["status"] == "ok"} == {"throughput", "scores", "memory", "stacked"}
    (failed,) = (row for row in speed if row["part"] == "sampling")
    assert (failed["status"], failed["note"]) == ("failed", "ZeroDivisionError: division by zero")

    assert {"ok"} <= {row["status"] for row in training} <= {"ok", "out of time"}
    gaussian = training[0]
    assert gaussian["job"] == "vae-gaussian"
    assert "digits" in gaussian["configuration"], "no MNIST was there, and the row says what was"
    assert float(gaussian["nll"]) < 200
    assert {row["device"] for row in checks + speed + training} == {"CPU, tiny"}

    files = list((tmp_path / "out").iterdir())
    assert len(files) <= 8
    assert max(file.stat().st_size for file in files) <= 15_000_000
    summary = capsys.readouterr().out.rpartition("checks: ")[2].splitlines()
    assert len(summary) <= LINES
    assert any("division by zero" in line for line in summary)
    assert remaining.keys() >= {job.name for job in all_jobs(tmp_path, True, 0)}


def test_models_as_one(tmp_path):
    """Each size of a stack beside a loop over its members, which compute what they compute alone."""
    one = bench(tmp_path)
    one.clock.start("part")
    stacked.run(one)
    checked, speed = rows(tmp_path, "checks"), rows(tmp_path, "speed")
    assert {row["status"] for row in (*checked, *speed)} == {"ok"}
    assert {(row["model"], row["mode"]) for row in speed} == {
        (f"{name} x{members}", mode)
        for name in ("vae mlp-8", "factor_vae small") for members in (1, 4) for mode in ("float32", "bf16")
    }  # fmt: skip
    assert all(float(row["images_per_second"]) > 0 and "times a loop over them" in row["note"] for row in speed)
    stacked.run(bench(tmp_path, go_on=True))
    assert len(rows(tmp_path, "speed")) == len(speed), "what was measured is not measured again"


@pytest.mark.parametrize("name", ["vae-gaussian", "flowpp-mnist", "dsprites-factor_vae"])
def test_a_training_in_two_slices_is_the_same_as_in_one(name, tmp_path, monkeypatch):
    """Weights, averaged weights and optimizers, bit for bit; the seconds of training add up."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    checkpoints, seconds = [], []
    for slices in ([8], [3, 5]):
        folder = tmp_path / str(len(slices))
        one = bench(folder, go_on=True)
        (job,) = (job for job in all_jobs(tmp_path, True, 0) if job.name == name)
        for batches in slices:
            (row,) = train(one, job, 60, batches)
            seconds.append(row["train_seconds"])
        assert row["batches"] == 8
        path = shards.join(folder, name, tmp_path / f"{len(slices)}.ckpt")
        checkpoints.append(torch.load(path, weights_only=True))
    keys = ["state_dict", "optimizer_states", *(["zoo_average"] if name.startswith("flowpp") else [])]
    for key in keys:
        torch.testing.assert_close(checkpoints[0][key], checkpoints[1][key], rtol=0, atol=0)
    assert seconds[2] > seconds[1] > 0


def test_a_try_that_fails_gives_a_row(tmp_path):
    one = bench(tmp_path)

    def missing():
        raise ModuleNotFoundError("No module named 'zuko'", name="zuko")

    one.attempt("checks", lambda: [{"value": 1.0}, {"value": 2.0, "status": "differs"}], model="good")
    one.attempt("checks", lambda: [1 / 0], model="broken")
    one.attempt("checks", missing, model="bare")
    one.attempt("checks", lambda: time.sleep(5), 0.1, model="slow")
    found = [(row["model"], row["status"], row["note"]) for row in rows(tmp_path, "checks")]
    assert found == [
        ("good", "ok", ""),
        ("good", "differs", ""),
        ("broken", "failed", "ZeroDivisionError: division by zero"),
        ("bare", "left out", "needs zuko"),
        ("slow", "out of time", ""),
    ]


def test_out_of_memory_halves_the_batch():
    def work(batch: int) -> dict:
        if batch > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"images_per_second": 1.0, "note": "slow"}

    assert halved(64, work) == {"images_per_second": 1.0, "batch": 16, "note": "out of memory with 64; slow"}
    assert halved(8, work)["note"] == "slow"
    with pytest.raises(torch.OutOfMemoryError):
        halved(64, lambda batch: work(64))


def test_time():
    """Parts share what is left, by their weights; what one leaves goes to those after it."""
    clock = Clock(100, {"first": 1, "second": 1, "third": 2}, {"first": 10})
    clock.start("first")
    assert clock.left() == pytest.approx(10, abs=1)
    clock.start("second")
    assert clock.left() == pytest.approx(100 / 3, abs=1)
    clock.start("third")
    assert clock.left() == pytest.approx(100, abs=1)
    with pytest.raises(OutOfTime), time_limit(0.3):
        with pytest.raises(OutOfTime), time_limit(0.05):
            time.sleep(5)
        time.sleep(5)
    with pytest.raises(OutOfTime), time_limit(0.05):
        try:
            time.sleep(5)
        except Exception:  # what libraries do
            pytest.fail("a limit is no Exception")


def test_rows_of_other_columns_are_left_alone(tmp_path):
    (tmp_path / "checks.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RuntimeError, match="give another --out"):
        Rows(tmp_path, "CPU", "2.11", 0).add("checks", part="selfcheck")


def test_wheels(tmp_path):
    """What isn't there is installed for the process alone; what is there stays."""
    for name in ("absent_package", "numpy"):
        info = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "answer = 42\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    script = f"""
from pathlib import Path
from benchmarks.gpu.wheels import install_missing
print(install_missing(Path({str(tmp_path)!r})))
import absent_package, numpy
print(absent_package.answer, hasattr(numpy, "answer"))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["['absent_package']", "42 False"], done.stderr


def test_a_bare_machine():
    """Without what only the command line, downloads and splines need, every registered model trains."""
    script = """
import sys
for name in ("jsonargparse", "pooch", "wandb", "zuko"):
    sys.modules[name] = None
from benchmarks.gpu import contract, run, sampling, scores, selfcheck, throughput, training, memory
from benchmarks.gpu.cases import build, pixels, small_cases
for case in small_cases():
    if not case.label:
        contract.gradients(build(case, 0), pixels(case.spec, 2), 0)
print("all")
"""
    options = {"cwd": REPOSITORY, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "check": False}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, **options)
    assert done.stdout.strip() == "all", done.stderr[-2000:]


def test_checkpoints_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BYTES", 10)
    whole = tmp_path / "whole"
    whole.write_bytes(bytes(range(35)))
    folder = tmp_path / "out"
    folder.mkdir()
    assert shards.split(whole, folder, "one")
    assert not shards.split(whole, folder, "two"), "four pieces are all that there is room for"
    assert shards.join(folder, "one", tmp_path / "joined").read_bytes() == whole.read_bytes()
    assert shards.join(folder, "two", tmp_path / "none") is None
    whole.write_bytes(b"new")
    assert shards.split(whole, folder, "one")
    assert [path.name for path in folder.iterdir()] == ["one.ckpt-0"]


def test_noise_of_the_host():
    """The numbers are those of the CPU's generator, in place or not, and of modules."""

    def draw():
        torch.manual_seed(3)
        a = torch.randn(4), torch.empty(4).normal_(), torch.rand_like(torch.zeros(4)), torch.randperm(4)
        return [*a, torch.bernoulli(torch.full((4,), 0.5)), torch.nn.functional.dropout(torch.ones(4))]

    plain = draw()
    with HostNoise():
        noise = draw()
    torch.testing.assert_close(noise, plain)


def test_what_holds_is_not_tried_again(tmp_path):
    """A run that goes on leaves out what this device has a result of; what failed is tried again."""
    one = bench(tmp_path, go_on=True)
    what = {"part": "contract", "configuration": "small"}
    one.rows.add("checks", **what, model="vae", check="float32, loss beside the CPU", status="ok")
    one.rows.add("checks", **what, model="gan", check="float32", status="failed")
    assert one.held("checks", "contract", "check") == {("vae", "small", "float32")}
    one.rows.common["device"] = "another"
    assert one.held("checks", "contract", "check") == set()


def test_a_wrong_gradient_is_seen():
    case = small_cases()[0]
    expected = contract.gradients(build(case, 0), pixels(case.spec, 4), 0)
    name = next(iter(expected[1]))
    wrong = expected[0], expected[1] | {name: -expected[1][name]}
    (loss, gradient) = contract._compared(expected, wrong, "float32", "the CPU")
    assert loss["status"] == "ok"
    assert gradient["status"] == "differs"
    assert name in gradient["note"]


def test_every_registered_model_has_its_cases():
    for cases in (paper_cases(tiny=False), small_cases()):
        assert {case.model for case in cases} == set(registry.MODELS)
        assert max(Counter(case.name for case in cases).values()) == 1


def test_long_trainings_as_they_are_on_a_gpu(monkeypatch):
    """Each model takes its data, and its checkpoint has room: weights, two moments of Adam, and the average if any."""
    monkeypatch.setattr(jobs, "mnist_found", lambda root: True)
    for job in all_jobs(Path("none"), False, 0):
        spec = job.data().spec
        assert spec.name == {"vae": "mnist_binary", "flowpp": "mnist", "dsprites": "dsprites"}[job.name.partition("-")[0]]
        model = registry.find_class(registry.MODELS[job.model].path)(spec, **job.options).to("meta").eval()
        loss, _ = model.objective(Batch(torch.empty(2, *spec.shape, dtype=torch.uint8, device="meta")))
        assert loss.is_meta
        numbers = sum(parameter.numel() for parameter in model.parameters()) * (3 + len(job.callbacks()))
        assert 4 * numbers < 0.99 * (shards.FILES - shards.TABLES) * shards.BYTES, job.name


def test_what_remains(tmp_path):
    """Minutes at the measured speed: the training's own where it ran, the throughput's else."""
    one = bench(tmp_path)
    one.rows.add("training", job="vae-iaf", status="ok", batches=40_000, images_per_second=5_000.0)
    one.rows.add("speed", part="throughput", model="vae", mode="float32", status="ok", images_per_second=10_000.0)
    one.rows.add("training", job="vae-sylvester", status="ok", batches=1, images_per_second=0.0)
    note_remaining(one)
    left = {row["what"]: row for row in rows(tmp_path, "remaining")}
    assert float(left["vae-iaf"]["minutes"]) == pytest.approx(60_000 * 100 / 5_000 / 60)
    assert float(left["vae-gaussian"]["minutes"]) == pytest.approx(100_000 * 100 / 10_000 / 60, rel=1e-4)
    assert left["vae-planar"]["note"] == left["vae-sylvester"]["note"] == "speed not measured"


def test_page_has_the_tables():
    assert tables(REPOSITORY / "results" / "gpu") in (REPOSITORY / "docs" / "gpu.md").read_text()


def test_tables(tmp_path):
    assert tables(tmp_path) == NONE_YET
    Rows(tmp_path, "NVIDIA H100", "2.11", 0).add("training", job="vae-iaf", batches=100, nll=81.25)
    assert "| job | batches | nll |\n| --- | --- | --- |\n| vae-iaf | 100 | 81.25 |" in tables(tmp_path)
    assert set(TABLES) == {"checks", "speed", "training", "remaining"}
