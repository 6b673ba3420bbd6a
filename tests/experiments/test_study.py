"""Studies: their files, what is missing of them, and what they survive: kills, failures, one another."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from conftest import REPOSITORY

from zoo.errors import ZooError
from zoo.experiments import study_pool
from zoo.experiments.study import places, run_study
from zoo.experiments.study_file import Execution, read_study
from zoo.experiments.study_pool import devices, require_provider, workers
from zoo.experiments.study_runs import StudyRun, arguments, differing, place_of
from zoo.experiments.study_worker import Job, call, in_charge

GRID = """
fit: {data: digits, model.hidden: 16, wandb: off}
evaluate: {examples: 10}
seeds: 2
blocks:
  - fit: {model: vae}
    grid: {lr: [0.001, 0.01], model.latent_dim: [2, 4]}
  - name: both
    fit: {model: dip_vae, compile: false}
    grid: {"model.lambda_od, model.lambda_d": [[1, 10], [2, 20]]}
    evaluate: {checkpoint: last, examples: 5}
    seeds: [7]
  - name: recipe
    fit: {config: recipes/realnvp}
    evaluate: false
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def test_a_grid(tmp_path):
    study = read_study(written(tmp_path, GRID), out=tmp_path / "out")
    names = [setting.name for setting in study.settings]
    assert names[:3] == ["vae-lr=0.001-latent_dim=2", "vae-lr=0.001-latent_dim=4", "vae-lr=0.01-latent_dim=2"]
    assert names[4:] == ["both-lambda_od=1-lambda_d=10", "both-lambda_od=2-lambda_d=20", "recipe"]
    assert [run.name for run in study.runs][6:] == ["recipe-s0", *(f"{name}-s1" for name in [*names[:4], "recipe"])]
    first, both, recipe = study.runs[0], study.runs[4], study.runs[6]
    assert first.fit == [
        *("--wandb", "off", "--data", "digits", "--model.hidden", "16", "--model", "vae", "--lr", "0.001"),
        *("--model.latent_dim", "2", "--seed", "0", "--name", first.name),
        *("--trainer.default_root_dir", str(tmp_path / "out" / "runs")),
    ]
    assert first.evaluate == ["--examples", "10"] and first.checkpoint is None
    assert both.evaluate == ["--examples", "5"] and both.checkpoint == "last" and both.seed == 7
    assert "--compile" in both.fit and both.fit[both.fit.index("--compile") + 1] == "false"
    assert recipe.evaluate is None and recipe.fit[recipe.fit.index("--config") + 1] == "recipes/realnvp"


def test_a_typed_option_wins_over_the_file(tmp_path):
    changes = ["lr=0.5", "data.root=/data", "evaluate.samples=3"]
    study = read_study(written(tmp_path, GRID), changes=changes, seeds=3, only=["vae-lr=0.01*"], workers=3)
    assert {setting.fit["lr"] for setting in study.settings} == {0.5} and len(study.runs) == 6
    assert study.runs[0].evaluate == ["--examples", "10", "--samples", "3", "--data.root", "/data"]
    assert study.execution.workers == 3 and study.out == Path("studies/mine")


@pytest.mark.parametrize(
    ("wrong", "right", "near"),
    [
        ("seeds: 2", "sedes: 2", "no setting sedes. Did you mean seeds?"),
        ("grid: {lr", "gird: {lr", "block 1: no setting gird. Did you mean grid?"),
        ("seeds: [7]", "seeds: [7, 7]", "seeds [7, 7]: how many"),
        ("[[1, 10], [2, 20]]", "[1, 10]", "2 values are needed each time"),
        ("checkpoint: last", "checkpoint: lst", "evaluate.checkpoint lst: best or last is accepted. Did you mean last?"),
        ("compile: false", "seed: 3", "fit.seed is the study's to say, by seeds"),
        ("model: vae", "data: digits", "fit names no model"),
        ("name: recipe", "name: both-lambda_od=1-lambda_d=10", "two settings are called both-lambda_od=1-lambda_d=10"),
        ("seeds: 2", "run: {worker: 2}", "run: no setting worker. Did you mean workers?"),
        ("seeds: 2", "run: {workers: 0}", "run.workers 0: a number of 1 or more is needed"),
        ("seeds: 2", "compare: {metric: nll}", "compare: no setting metric. Did you mean metrics?"),
        ("seeds: 2", "run: {provider: {partition: gpu}}", "run.provider has no name"),
        ("seeds: 2", "analysis: yess", "analysis yess: true or false is accepted"),
        ("blocks:", "block:", "no setting block. Did you mean blocks?"),
        ("fit: {model: vae}", "fit: [model]", "names with values are needed"),
    ],
)
def test_mistakes_in_the_file(tmp_path, wrong, right, near):
    path = written(tmp_path, GRID.replace(wrong, right, 1))
    with pytest.raises(ZooError) as caught:
        read_study(path)
    assert str(caught.value).startswith(str(path)) and near in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_mistakes_that_are_typed(tmp_path):
    path = written(tmp_path, GRID)
    for options, told in (
        ({"changes": ["lr"]}, "--set lr: KEY=VALUE is needed"),
        ({"only": ["va"]}, "--only va: no setting is called so."),
    ):
        with pytest.raises(ZooError, match=told):
            read_study(path, **options)
    with pytest.raises(
        ZooError, match=r"studies/smok: there is no such file, and no study of that name\. Did you mean studies/smoke"
    ):
        read_study("studies/smok")


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "configs" / "studies").glob("*.yaml")))
def test_studies_that_come_along(name, cli):
    """Their options are known to the commands; those of models are looked at when they are run."""
    from zoo.cli.study import _require_known

    study = read_study(f"studies/{name}")
    _require_known(study)
    assert len({run.name for run in study.runs}) == len(study.runs)
    if name.startswith("locatello"):
        assert len(study.runs) == 1800


@pytest.fixture
def run(tmp_path) -> StudyRun:
    return StudyRun("a-s0", "a", 0, str(tmp_path), ["--model", "vae", "--name", "a-s0"], ["--points", "5"])


def leave(
    folder: Path, state: str, command: str = "python -m zoo.fit --model vae --name a-s0 --gpus 1", last: bool = True
) -> Path:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"state": state, "command": command}))
    if last:
        (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_how_far_a_run_is(tmp_path, run):
    assert place_of(run, run.folder) == "new"
    folder = tmp_path / "vae-digits" / "a-s0"
    folder.mkdir(parents=True)
    assert place_of(run, run.folder) == "begun"
    for state, place in {
        "running": "interrupted",
        "stopped": "interrupted",
        "diverged": "diverged",
        "failed": "failed",
    }.items():
        assert place_of(run, leave(folder, state)) == place
    assert run.fit_arguments(folder) == ["--model", "vae", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]
    assert place_of(run, leave(folder, "finished")) == "trained"
    (folder / "evaluation.json").write_text("{")
    assert place_of(run, folder) == "trained"
    told = {"metrics": {}, "weights": "last", "command": f"python -m zoo.evaluate --ckpt {folder} --points 5 --gpus 0"}
    (folder / "evaluation.json").write_text(json.dumps(told))
    assert place_of(run, folder) == "done"
    for changed in ({"weights": "best"}, {"command": "python -m zoo.evaluate --ckpt x --points 6"}):
        (folder / "evaluation.json").write_text(json.dumps({**told, **changed}))
        assert place_of(run, folder) == "trained"
    (folder / "evaluation.json").write_text(json.dumps(told))
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert place_of(run, folder) == "done", "its checkpoints may be removed"


def test_a_folder_of_another_run(tmp_path, run):
    folder = leave(tmp_path / "vae-digits" / "a-s0", "finished", "python -m zoo.fit --model vae --lr 0.1")
    with pytest.raises(ZooError, match=r"a run with other settings: lr 0\.1 there and not given here") as caught:
        place_of(run, folder)
    assert len(str(caught.value).splitlines()) == 2


def test_what_differs_between_commands():
    assert (
        differing("python -m zoo.fit --model vae --data.root /a --wandb off", ["--model", "vae", "--data.root", "/b"])
        is None
    )
    assert differing("python -m zoo.fit --ckpt_path x.ckpt", ["--model", "vae"]) is None
    assert differing("python -m zoo.fit --model vae", ["--model", "gan"]) == "model vae there and gan here"
    several = "python -m zoo.fit --model vae --name a --seeds 0,1 --stack on --lr 0.1"
    assert differing(several, ["--model", "vae", "--seed", "1", "--lr", "0.1"]) is None
    assert differing(several, ["--model", "vae", "--seed", "1", "--lr", "0.2"]) == "lr 0.1 there and 0.2 here"
    assert arguments({"wandb": False, "lr": -1, "config": ["a", "b"]}) == [
        "--wandb",
        "off",
        "--lr=-1",
        "--config",
        "a",
        "--config",
        "b",
    ]


def test_devices(monkeypatch):
    assert devices(Execution(), 0) == () and devices(Execution(gpus=0), 8) == ()
    assert devices(Execution(gpus=[1, 3], per_gpu=2), 4) == ("1", "3", "1", "3")
    assert devices(Execution(workers=5), 2) == ("0", "1", "0", "1", "0")
    assert devices(Execution(gpus=1, per_gpu=2, workers=4), 1) == ("0", "0", None, None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert devices(Execution(), 2) == ("5", "7"), "those that this machine gives us"
    with pytest.raises(ZooError, match="gpus 2: this machine has 1"):
        devices(Execution(gpus=2), 1)
    assert workers(Execution(workers=3), ()) == 3 and workers(Execution(threads=10_000), ()) == 1
    assert workers(Execution(), ("0", "0")) == 2


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ({"name": "slrm"}, "provider slrm: there is none. Did you mean slurm?\nThere are local, slurm"),
        ({"name": "slurm"}, "provider slurm: this machine has no sbatch.\nStart the study where jobs are submitted from"),
        ({"name": "pbs"}, "provider pbs: this machine has no qsub"),
        ({"name": "kubernetes"}, "provider kubernetes needs the package kubernetes: pip install kubernetes"),
        ({"name": "local", "walltme": "1:00"}, "provider local has no option walltme."),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_provider_that_is_not_there(provider, told):
    with pytest.raises(ZooError) as caught:
        require_provider(provider)
    assert told in str(caught.value) and len(str(caught.value).splitlines()) <= 2


def test_options_of_a_provider(monkeypatch):
    """Those of Parsl's class, where its program is there."""
    monkeypatch.setattr(study_pool.shutil, "which", lambda program: f"/usr/bin/{program}")
    require_provider({"name": "slurm", "partition": "gpu", "walltime": "1:00:00", "max_blocks": 2, "address": "login"})
    with pytest.raises(ZooError, match=r"provider slurm has no option partiton\. Did you mean partition"):
        require_provider({"name": "slurm", "partiton": "gpu"})


def test_without_parsl(monkeypatch, cli, tmp_path):
    monkeypatch.setattr(study_pool.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match="pip install 'generative-zoo\\[study\\]'"):
        run_study(read_study("studies/smoke", out=tmp_path))


def test_a_command_leaves_nothing_behind(tmp_path, monkeypatch):
    """It is forked: what it changes is its own, and a crash is an exit status."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "changes.py").write_text(
        "import os, sys, warnings, torch\n"
        "warnings.simplefilter('ignore'); torch.manual_seed(3); torch.set_num_threads(2); os.environ['LEFT'] = '1'\n"
        "print(sys.argv, repr(os.environ['CUDA_VISIBLE_DEVICES'])); sys.exit(int(sys.argv[1]))\n"
    )
    (tmp_path / "dies.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    (tmp_path / "raises.py").write_text("raise ValueError('wrong')")
    filters, log = list(warnings.filters), tmp_path / "log"
    assert call("changes", ["7"], log, "3", lambda: False) == 7
    assert "['changes', '7'] '3'" in log.read_text().replace(str(tmp_path / "changes.py"), "changes")
    log.unlink()
    assert call("changes", ["4"], log, None, lambda: False, warm=False) == 4, "by a Python of its own"
    assert "'4'] ''" in log.read_text()
    assert warnings.filters == filters and "LEFT" not in os.environ
    assert call("dies", [], log, None, lambda: False) == -signal.SIGKILL
    assert call("raises", [], log, None, lambda: False) == 1 and "ValueError: wrong" in log.read_text()


def test_a_command_that_is_unwanted_ends(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "waits.py").write_text("import time\ntime.sleep(60)")
    began = time.monotonic()
    assert call("waits", [], tmp_path / "log", None, lambda: True) == -signal.SIGTERM
    assert time.monotonic() - began < 20


def test_who_is_in_charge(tmp_path, run):
    """A study whose process is gone, that gave up, or whose time is over."""
    job = Job(run, str(tmp_path), "token")
    assert not in_charge(job)
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); f.write('token'); f.flush(); fcntl.flock(f, 2); "
    holder += "print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "study.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert in_charge(job)
        assert not in_charge(Job(run, str(tmp_path), "another"))
        assert not in_charge(Job(run, str(tmp_path), "token", deadline=time.time() - 1))
        with pytest.raises(ZooError, match="a study is at work there") as caught:
            run_study(read_study("studies/smoke", out=tmp_path))
        assert len(str(caught.value).splitlines()) == 2
        process.kill()
    assert not in_charge(job)


SMALL = """
fit:
  data: digits
  model.network: mlp
  model.hidden: 16
  model.latent_dim: 2
  max_steps: 2000
  checkpoint_every: 50
  trainer.check_val_every_n_epoch: 1000
  trainer.callbacks: []
evaluate: {}
blocks:
  - fit: {model: vae}
    grid: {lr: [0.001, 0.01]}
  - name: broken
    fit: {model: broken.Broken, max_steps: 5}
"""
BROKEN = """
from zoo import VAE

class Broken(VAE):
    def objective(self, batch):
        raise RuntimeError("it never works")
"""


def events(out: Path) -> list[dict]:
    path = out / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, process: subprocess.Popen, log: Path, seconds: float = 240.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return found


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_kills_failures_and_a_second_study(tmp_path, monkeypatch):
    """The study is killed, then a worker: no run is lost, none is done twice, and one that always fails is told."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{REPOSITORY}")
    written(tmp_path, SMALL)
    (tmp_path / "broken.py").write_text(BROKEN)
    out, log = tmp_path / "out", tmp_path / "said"
    command = [sys.executable, "-m", "zoo.study", "mine.yaml", "--out", "out", "--workers", "2", "--gpus", "0"]

    def start() -> subprocess.Popen:
        with open(log, "a") as file:
            return subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True)

    first = start()
    wait_for(lambda: (out / "study.lock").exists() and (out / "study.lock").read_text(), first, log)
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert second.returncode == 2 and "a study is at work there, process" in second.stderr
    wait_for(lambda: len(list(out.glob("runs/vae-*/*/checkpoints/last.ckpt"))) == 2, first, log)
    first.kill()
    first.wait()
    before = len(events(out))
    third = start()
    lost = wait_for(
        lambda: [e for e in events(out)[before:] if e["what"] == "begin" and e["run"].startswith("vae")], third, log
    )[0]
    os.kill(lost["process"], signal.SIGKILL)
    assert third.wait(timeout=400) == 1, log.read_text()
    said = log.read_text()
    assert f"{lost['run']}: its worker was lost; it goes on with another one" in said
    assert "broken-s0 failed; it is tried again: RuntimeError: it never works" in said
    assert "out: 2 of 3 runs done, 1 failed" in said and "broken-s0: failed: RuntimeError: it never works" in said
    folders = sorted(path.name for path in out.glob("runs/vae-*/*"))
    assert folders == ["vae-lr=0.001-s0", "vae-lr=0.01-s0"]
    for folder in out.glob("runs/vae-*/*"):
        assert (folder / "config-2.yaml").exists(), "it went on"
        record = json.loads((folder / "run.json").read_text())
        assert record["state"] == "finished" and record["batches"] == 2000
        steps = [line.split(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
        assert len(steps) == len(set(steps)), "no batch was counted twice"
    assert (out / "comparison" / "report.html").exists()
    rows = (out / "runs.csv").read_text().splitlines()
    assert len(rows) == 4 and "test/elbo" in rows[0]
    at = places(read_study(tmp_path / "mine.yaml", out=out))
    assert {name: place for name, place in at.items() if name.startswith("vae")} == dict.fromkeys(folders, "done")
    assert not [e["process"] for e in events(out) if alive(e["process"])], "no worker is left"


def test_seeds_as_one_model(tmp_path):
    """Each with its folder and evaluation; what can't be stacked is trained all the same; the study can go on without."""
    text = """
        fit: {data: digits, max_steps: 3, trainer.callbacks: [], model.network: mlp, model.hidden: 8, model.latent_dim: 2}
        evaluate: {}
        seeds: 3
        blocks:
          - fit: {model: vae}
          - name: averaged
            fit: {model: gan, model.width: 4, model.hidden: null}
            seeds: 2
    """
    text = text.replace(", model.hidden: null", "").replace("model.hidden: 8, model.latent_dim: 2", "model.latent_dim: 2")
    path = written(tmp_path, text)
    study = read_study(path, out=tmp_path / "out", stack=True, workers=2, gpus=0)
    report = run_study(study)
    assert (report.done, report.total, report.failed) == (5, 5, {})
    begun = Counter(e["run"] for e in events(tmp_path / "out") if e["what"] == "begin")
    assert begun["vae-s0"] == 2 and begun["vae-s1"] == begun["vae-s2"] == 1, "trained as one, evaluated one by one"
    for seed in range(3):
        folder = tmp_path / "out" / "runs" / "vae-digits" / f"vae-s{seed}"
        record = json.loads((folder / "run.json").read_text())
        assert record["seed"] == seed and "--seeds 0,1,2" in record["command"]
    assert set(places(read_study(path, out=tmp_path / "out")).values()) == {"done"}


def test_the_time_is_over(tmp_path):
    """Nothing is begun any more, and that is no failure."""
    study = read_study(written(tmp_path, SMALL), out=tmp_path / "out", only=["vae*"], minutes=0, gpus=0)
    report = run_study(study)
    assert (report.done, report.failed, report.stopped) == (0, {}, "time")
    assert "The same command goes on" in str(report)


@pytest.mark.slow
def test_ctrl_c(tmp_path, monkeypatch):
    """It reaches all programs in front: the study alone hears it, its runs write their checkpoints."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    written(tmp_path, SMALL)
    out, log = tmp_path / "out", tmp_path / "said"
    command = [sys.executable, "-m", "zoo.study", "mine.yaml", "--out", "out", "--gpus", "0", "--only", "vae*"]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from zoo.cli.main import main; "
    code += "main('study', sys.argv[1:])"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *command[3:]], cwd=tmp_path, stdout=file, stderr=file, start_new_session=True
        )
    wait_for(lambda: list(out.glob("runs/vae-*/*/checkpoints/last.ckpt")), process, log)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=200) == 130, log.read_text()
    assert "SIGINT: runs write their checkpoints and stop" in log.read_text() and "Traceback" not in log.read_text()
    states = [json.loads(path.read_text())["state"] for path in out.glob("runs/vae-*/*/run.json")]
    assert states and set(states) == {"stopped"}
    assert not [e["process"] for e in events(out) if alive(e["process"])]


@pytest.mark.slow
def test_a_dry_run(tmp_path, cli):
    """Settings, what is missing of them, and what it takes; nothing is written."""
    path = written(tmp_path, SMALL)
    status, out, err = cli("study", path, "--dry-run", "--only", "vae*", "--gpus", 0, "--seeds", 2)
    assert status == 0, err
    row = next(line.split() for line in out.splitlines() if line.startswith("vae-lr=0.001"))
    assert row[:5] == ["vae-lr=0.001", "2", "0", "0", "2"]
    assert "  python -m zoo.fit --wandb off --data digits" in out and "of trainings one after the other" in out
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.yaml"]


def test_a_mistake_in_the_file_is_a_line(tmp_path, cli):
    """Two that are known without torch, and one of a model, which is looked at before anything is trained."""
    path = written(tmp_path, SMALL.replace("data: digits", "data: digts"))
    status, _, err = cli("study", path)
    assert (
        status == 2 and err.startswith(f"error: {path}: vae-lr=0.001: no data set 'digts'") and "Did you mean digits?" in err
    )
    path = written(tmp_path, SMALL.replace("evaluate: {}", "evaluate: {point: 3}"))
    status, _, err = cli("study", path)
    assert status == 2 and "no option --point. Did you mean --points?" in err
    path = written(tmp_path, SMALL.replace("model.hidden", "model.hiden"))
    status, _, err = cli("study", path, "--out", "out", "--gpus", 0)
    assert status == 2 and f"{path}: vae-lr=0.001: no option --model.hiden of VAE. Did you mean --model.hidden?" in err
    assert len(err.splitlines()) <= 2 and not list(Path("out").glob("runs/*"))
