"""`python -m zoo.fit`: options, run folders, resuming, several processes, and what goes wrong."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY

import zoo
from zoo.runs.checkpoints import read

QUICK = ("--model", "gan", "--trainer.max_steps", 2)


def printed_config(cli, *arguments: object) -> dict:
    status, out, err = cli("fit", *arguments, "--print_config")
    assert status == 0, err
    return yaml.safe_load(out)


def rows(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_options_win_in_any_position(cli):
    for arguments in (("--model.lr", "3e-4", "--model", "gan"), ("--model", "gan", "--model.lr=3e-4")):
        config = printed_config(cli, *arguments)
        assert config["model"]["class_path"] == "zoo.models.GAN"
        assert config["model"]["init_args"]["lr"] == 3e-4
        assert config["data"]["class_path"] == "datamodules.Digits"


def test_a_file_wins_over_the_preset_and_options_over_both(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {init_args: {lr: 0.5, latent_dim: 7}}\ntrainer: {max_steps: 9}\n")
    config = printed_config(cli, "--config", "mine.yaml", "--model.latent_dim", 5, "--model", "gan")
    assert config["model"]["init_args"]["lr"] == 0.5
    assert config["model"]["init_args"]["latent_dim"] == 5
    assert config["trainer"]["max_steps"] == 9


def test_arguments_win_over_files_wherever_they_stand(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "seed_everything: 9\nmodel: {class_path: zoo.models.VAE, init_args: {lr: 0.5}}\n"
        "data: {class_path: datamodules.Toy}\ntrainer: {accelerator: gpu, devices: 4}\n"
    )
    arguments = ["--model", "gan", "--seed", 3, "--gpus", 0, "--data", "digits", "--model.lr", 0.1]
    for line in ([*arguments, "--config", "mine.yaml"], ["--config", "mine.yaml", *arguments]):
        config = printed_config(cli, *line)
        assert config["seed_everything"] == 3
        assert config["model"]["class_path"] == "zoo.models.GAN"
        assert config["model"]["init_args"]["lr"] == 0.1
        assert config["data"]["class_path"] == "datamodules.Digits"
        assert (config["trainer"]["accelerator"], str(config["trainer"]["devices"])) == ("cpu", "1")


def test_a_class_of_ones_own_keeps_what_its_ancestors_preset_says(cli, tmp_path, monkeypatch):
    (tmp_path / "kin.py").write_text("from zoo import GAN\n\n\nclass Kin(GAN):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own, plain = printed_config(cli, "--model", "kin.Kin"), printed_config(cli, "--model", "gan")
    assert own["model"]["class_path"] == "kin.Kin"
    assert own["model"]["init_args"] == plain["model"]["init_args"]
    assert own["trainer"] == plain["trainer"]


def test_a_mistake_in_ones_own_model_is_shown_where_it_is(tmp_path):
    (tmp_path / "bad.py").write_text(
        "from zoo import GAN\n\n\nclass M(GAN):\n    def __init__(self, spec):\n        1 / 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "zoo.fit", "--model", "bad.M", "--wandb", "off"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "bad.py" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_gpus_are_arguments_for_the_trainer(cli):
    config = printed_config(cli, "--model", "gan", "--gpus", 4)
    assert config["trainer"]["accelerator"] == "gpu"
    assert config["trainer"]["devices"] in (4, "4")


def test_trainer_options_are_untouched(cli):
    trainer = printed_config(cli, "--model", "gan", "--trainer.precision", "bf16-mixed", "--trainer.strategy", "ddp")[
        "trainer"
    ]
    assert (trainer["precision"], trainer["strategy"]) == ("bf16-mixed", "ddp")


@pytest.mark.skipif(torch.cuda.device_count() >= 4, reason="this machine has four GPUs")
def test_too_many_gpus_is_one_line(cli):
    status, _, err = cli("fit", "--model", "gan", "--gpus", 4)
    assert status == 2
    assert len(err.splitlines()) == 1
    found = torch.cuda.device_count()
    assert f"Type --gpus {found}" in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model.lrr", 3], ["--model.lrr", "Did you mean --model.lr?"]),
        (["--model.latent", 3], ["--model.latent", "--model.latent_dim"]),
        (["--data.batch", 3], ["--data.batch", "--data.batch_size"]),
        (["--trainer.max_step", 3], ["--trainer.max_step", "Did you mean --trainer.max_steps?"]),
        (["--model.lr", "abc"], ["--model.lr abc", "float"]),
        (["--model.loss", "hing"], ["--model.loss hing", "non_saturating", "Did you mean hinge?"]),
        (["--trainer.max_steps", "many"], ["--trainer.max_steps many", "int"]),
        (["--data", "toy", "--model.network", "dcgan"], ["dcgan", "toy_ring", "(2,)", "--model.network mlp"]),
        (["--data.batch_size", 0], ["batch_size 0"]),
        (["--config", "nofile.yaml"], ["nofile.yaml"]),
        (["--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp"], ["find_unused_parameters"]),
        (["--ckpt_path", "nofile.ckpt"], ["nofile.ckpt"]),
        (["stray"], ["stray"]),
    ],
    ids=lambda value: str(value[0]),
)
def test_wrong_options_are_named_in_two_lines(cli, tmp_path, arguments, parts):
    status, _, err = cli("fit", "--model", "gan", *arguments)
    assert status == 2
    assert len(err.splitlines()) <= 2
    for part in parts:
        assert part in err
    assert not any(tmp_path.iterdir()), "nothing is written for a command that can't be run"


@pytest.mark.parametrize(("text", "part"), [("a: [1", "is not YAML"), ("- 1", "holds a list"), ("modl: 3", "modl")])
def test_files_that_are_no_settings(cli, tmp_path, text, part):
    (tmp_path / "mine.yaml").write_text(text)
    status, _, err = cli("fit", "--model", "gan", "--config", "mine.yaml")
    assert status == 2
    assert part in err
    assert len(err.splitlines()) <= 2


def test_no_model_is_said(cli):
    status, _, err = cli("fit", "--data", "digits")
    assert status == 2
    assert "--model NAME" in err


def test_help_of_a_model_lists_its_options(cli):
    status, out, _ = cli("fit", "--model", "gan", "--help")
    assert status == 0
    assert "--model.critic_steps" in out
    assert "--model.spec " not in out


def test_run_folder(run_folder):
    assert run_folder.parts[-3:] == ("runs", "gan-digits", "1")
    names = {str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "checkpoints/last.ckpt", "pictures/samples.png"} <= names
    assert [int(row["step"]) for row in rows(run_folder)] == list(range(1, 31))
    assert read(run_folder / "checkpoints/last.ckpt")["global_step"] == 30


def test_the_config_of_a_run_runs_again_and_gives_the_same(cli, run_folder):
    status, out, err = cli("fit", "--config", run_folder / "config.yaml")
    assert status == 0, err
    again = Path(out.splitlines()[-1].removeprefix("run: "))
    assert again.name == "2"
    assert rows(again) == rows(run_folder)


def test_a_resumed_run_is_the_run_that_was_not_interrupted(cli, run_folder):
    """Weights of both players, their average, both optimizers' states, the batches and the noise: bit for bit."""
    arguments = ("--trainer.log_every_n_steps", 1, "--trainer.max_steps")
    _, out, _ = cli("fit", "--model", "gan", *arguments, 13)
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    assert folder.name == "2"
    status, out, err = cli("fit", "--ckpt_path", folder / "checkpoints/last.ckpt", "--trainer.max_steps", 30)
    assert status == 0, err
    assert out.splitlines()[-1] == f"run: {folder.resolve()}", "the same folder"
    whole, resumed = (read(run / "checkpoints/last.ckpt") for run in (run_folder, folder))
    assert whole["global_step"] == resumed["global_step"] == 30
    for part in ("state_dict", "optimizer_states", "zoo_average"):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
    found, expected = rows(folder), rows(run_folder)
    found[12] |= {name: "" for name in found[12] if name.startswith("val/")}  # what the first part ended with was validated
    assert found == expected, "metrics.csv goes on where it was"


def test_options_at_a_resume_are_applied_or_refused(cli, new_run_folder):
    """config.yaml says what the start was, and a file beside it what each part went on with; the newest counts."""
    last, began = new_run_folder / "checkpoints/last.ckpt", (new_run_folder / "config.yaml").read_text()

    def resume(*arguments):
        status, _, err = cli("fit", "--ckpt_path", last, *arguments)
        return status, err

    def rates():
        return [group["lr"] for state in read(last)["optimizer_states"] for group in state["param_groups"]]

    for arguments, parts in (
        (["--seed", 5], ["--seed 5", "its seed, 0"]),
        (["--data.seed", 7], ["seed 7", "its seed, 0"]),
        (["--model.width", 8], ["the weights", "don't fit"]),
    ):
        status, err = resume("--trainer.max_steps", 33, *arguments)
        assert status == 2
        assert len(err.splitlines()) <= 2
        assert all(part in err for part in parts)
    assert sorted(path.name for path in new_run_folder.glob("config*")) == ["config.yaml"]

    assert rates() == [2e-3, 2e-3]
    assert resume("--model.lr", 1e-4, "--trainer.max_steps", 33)[0] == 0
    assert rates() == [1e-4, 1e-4]
    assert resume("--data.batch_size", 100, "--seed", 0, "--trainer.max_steps", 36)[0] == 0
    assert rates() == [1e-4, 1e-4], "the settings are those of the part before"
    assert (new_run_folder / "config.yaml").read_text() == began
    second, third = (yaml.safe_load((new_run_folder / f"config-{part}.yaml").read_text()) for part in (2, 3))
    assert (second["model"]["init_args"]["lr"], second["trainer"]["max_steps"]) == (1e-4, 33)
    assert (third["model"]["init_args"]["lr"], third["data"]["init_args"]["batch_size"]) == (1e-4, 100)
    assert [int(row["step"]) for row in rows(new_run_folder)] == list(range(1, 37))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compile(cli):
    """A compiled run gives a checkpoint like any other."""
    torch.compiler.reset()
    arguments = "--model vae --model.network mlp --model.hidden 16 --model.latent_dim 2 --trainer.max_steps 3 --compile"
    status, out, err = cli("fit", *arguments.split())
    assert status == 0, err
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    assert yaml.safe_load((folder / "config.yaml").read_text())["compile"] is True
    assert zoo.load(folder / "checkpoints/last.ckpt").sample(2).shape == (2, 1, 8, 8)


def test_compile_without_a_compiler(cli, tmp_path, monkeypatch):
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):  # monkeypatch would delete it at the end
        status, _, err = cli("fit", "--model", "vae", "--model.hidden", 16, "--trainer.max_steps", 3, "--compile")
    assert status == 2
    assert "no-such-compiler" in err
    assert "leave --compile out" in err.splitlines()[-1]


def test_metrics_are_written_whatever_logger_is_chosen(cli):
    for logger in ("false", "pytorch_lightning.loggers.CSVLogger --trainer.logger.save_dir elsewhere"):
        arguments = f"--model gan --trainer.max_steps 2 --trainer.log_every_n_steps 1 --trainer.logger {logger}"
        status, out, err = cli("fit", *arguments.split())
        assert status == 0, err
        assert len(rows(Path(out.splitlines()[-1].removeprefix("run: ")))) == 2
    assert list(Path("elsewhere").rglob("metrics.csv"))


def test_what_every_run_has_can_be_switched_off(cli):
    status, out, err = cli(
        "fit", *QUICK, "--trainer.enable_checkpointing", "false", "--trainer.enable_progress_bar", "false"
    )
    assert status == 0, err
    assert "batches [" not in err
    assert not (Path(out.splitlines()[-1].removeprefix("run: ")) / "checkpoints").exists()


def test_two_processes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zoo.fit", *map(str, QUICK), "--trainer.accelerator", "cpu", "--trainer.devices", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1
    assert [path.name for path in (tmp_path / "runs/gan-digits").iterdir()] == ["1"], "one folder for both"
    config = yaml.safe_load((tmp_path / "runs/gan-digits/1/config.yaml").read_text())
    assert config["trainer"]["devices"] == 2


def test_a_model_of_ones_own_from_the_current_folder(cli, tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from zoo import GAN\n"
        "class MyGAN(GAN):\n"
        "    def __init__(self, spec, sharpness: float = 1.0, **options):\n"
        "        super().__init__(spec, **options)\n"
        "        self.sharpness = sharpness\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ("--model", "my_models.MyGAN", "--model.sharpness", 2.5, "--model.latent_dim", 7, "--trainer.max_steps", 2)
    status, out, err = cli("fit", *arguments)
    assert status == 0, err
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    assert folder.parts[-2] == "mygan-digits"
    model = zoo.load(folder / "checkpoints/last.ckpt")
    assert type(model).__name__ == "MyGAN"
    assert (model.sharpness, model.latent_dim) == (2.5, 7)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["callbacks"], "the GAN's preset holds for what is derived from it"


@pytest.mark.parametrize("arguments", [["--model", "no_such_file.MyGAN"], ["--model", "zoo.models.gan.NoSuchClass"]])
def test_a_model_that_cant_be_imported(cli, arguments):
    status, _, err = cli("fit", *arguments)
    assert status == 2
    assert "can't import" in err
    assert len(err.splitlines()) <= 2


def test_a_class_that_is_no_model(cli):
    status, _, err = cli("fit", "--model", "torch.nn.Linear")
    assert status == 2
    assert "not a model of the zoo" in err


def broken_checkpoint(kind: str, path: Path, good: Path) -> None:
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:-1000])
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "empty":
        path.touch()
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "other model":
        torch.save({**read(good), "zoo_class": "zoo.models.other.Other"}, path)


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "tensor", "other model"])
def test_broken_checkpoints_lose_nothing(cli, run_folder, tmp_path, kind):
    before = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}
    path = run_folder / "checkpoints" / "broken.ckpt"
    broken_checkpoint(kind, path, run_folder / "checkpoints/last.ckpt")
    for command, arguments in (("fit", ("--ckpt_path", path)), ("sample", ("--ckpt", path)), ("evaluate", ("--ckpt", path))):
        status, _, err = cli(command, *arguments)
        assert status == 2, command
        assert "broken.ckpt" in err
        assert len(err.strip().splitlines()) <= 2
    path.unlink()
    after = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}
    assert {p: t for p, t in after.items() if p.is_file()} == {p: t for p, t in before.items() if p.is_file()}


def test_a_checkpoint_for_other_data_is_refused(cli, run_folder):
    status, _, err = cli("fit", "--ckpt_path", run_folder / "checkpoints/last.ckpt", "--data", "toy", "--model", "gan")
    assert status == 2
    assert "digits" in err
    assert "toy_ring" in err


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(cli, new_run_folder):
    good = new_run_folder / "checkpoints/last.ckpt"
    broken = read(good)
    broken["state_dict"]["generator.project.weight"].fill_(float("nan"))
    broken["optimizer_states"] = read(good)["optimizer_states"]
    before = new_run_folder / "checkpoints/before.ckpt"
    torch.save(broken, before)
    shutil.copy(good, new_run_folder / "kept.ckpt")
    status, _, err = cli("fit", "--ckpt_path", before, "--trainer.max_steps", 200)
    assert status == 2
    assert "not finite at batch 31" in err
    assert good.read_bytes() == (new_run_folder / "kept.ckpt").read_bytes()


def test_a_run_folder_that_cant_be_written(cli, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = cli("fit", *QUICK, "--trainer.default_root_dir", tmp_path / "file")
    assert status == 2
    assert "can't make a run folder" in err
    assert "--trainer.default_root_dir" in err


@pytest.mark.parametrize("what", ["last.ckpt", "metrics.csv", "config-2.yaml"])
def test_a_full_disk_keeps_what_was_good(new_run_folder, tmp_path, what):
    """A real limit on the size of files, in a process of its own; a file of each kind is the first that is too large."""
    last = new_run_folder / "checkpoints" / "last.ckpt"
    size = {"last.ckpt": 100_000, "metrics.csv": 3_000, "config-2.yaml": 1_000}[what]
    code = f"""
import resource, signal, sys
from zoo.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
main("fit", sys.argv[1:])
"""
    arguments = ["--ckpt_path", last, "--trainer.max_steps", "90", "--trainer.log_every_n_steps", "1"]
    arguments += ["--trainer.enable_checkpointing", "false"] if what == "metrics.csv" else []
    before = {path: path.read_bytes() for path in new_run_folder.rglob("*") if path.is_file()}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2, done.stderr
    error, advice = done.stderr.strip().splitlines()[-2:]
    assert f"{what} can't be written: File too large" in error
    assert advice == f"When that is mended, go on with --ckpt_path {last}." or what == "config-2.yaml"
    after = {path: path.read_bytes() for path in new_run_folder.rglob("*") if path.is_file() and path.suffix != ".png"}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"metrics.csv", "config-2.yaml", "run.json"} - {what}
