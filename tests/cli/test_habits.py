"""What people type who come from other tools is understood, or answered with the right option; mistakes are lines."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

from zoo import registry
from zoo.cli.completion import completion
from zoo.cli.habits import as_typed_here
from zoo.errors import ZooError

MINE = """
from pytorch_lightning import Callback
from zoo.distributions.priors import Prior
from zoo.models import VAE

class NoSample(Prior):
    def forward(self):
        return self.normal()

class ColdSample(NoSample):
    def sample(self, n):
        return self.normal().sample((n,))

class Raises(ColdSample):
    def __init__(self, latent_dim):
        raise KeyError("oops")

class Model(VAE):
    def __init__(self, spec, depth: int = 2, **options):
        super().__init__(spec, **options)
        raise RuntimeError("depth must be odd")

class Watch(Callback):
    def __init__(self, n: int = 2):
        raise ValueError("n must be prime")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "habits_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "habits_mine", raising=False)
    return tmp_path


def printed(cli, *arguments) -> dict:
    status, out, err = cli("fit", *arguments, "--print_config")
    assert status == 0, err
    return yaml.safe_load(out)


def refused(cli, *arguments) -> str:
    """The lines that an impossible command is answered with; nothing is written for it."""
    before = sorted(Path().rglob("*"))
    status, _, err = cli("fit", *arguments, "--wandb", "off")
    assert status in (1, 2)
    said = [line for line in err.splitlines() if not line.startswith(("training ", "--", "Downloading"))]
    assert len(said) <= 2, err
    assert [path for path in sorted(Path().rglob("*")) if path not in before and "__pycache__" not in str(path)] == []
    return " ".join(said)


@pytest.mark.parametrize(
    ("typed", "where", "value"),
    [
        (["--lr", "3e-4"], "model.init_args.lr", 3e-4),
        (["--learning-rate=3e-4"], "model.init_args.lr", 3e-4),
        (["--epochs", "3"], "trainer.max_epochs", 3),
        (["--max_epochs", "3"], "trainer.max_epochs", 3),
        (["--max_steps", "7"], "trainer.max_steps", 7),
        (["--steps", "7"], "trainer.max_steps", 7),
        (["--batch_size", "32"], "data.init_args.batch_size", 32),
        (["--batch-size", "32"], "data.init_args.batch_size", 32),
        (["--latent_dim", "3"], "model.init_args.latent_dim", 3),
        (["--beta", "2"], "model.init_args.kl.beta", 2.0),
        (["--precision", "bf16-mixed"], "trainer.precision", "bf16-mixed"),
        (["--grad_clip", "1"], "trainer.gradient_clip_val", 1),
        (["--output_dir", "here"], "trainer.default_root_dir", "here"),
        (["--dataset", "toy_grid"], "data.init_args.density", "grid"),
        (["--num_gpus", "0"], "trainer.accelerator", "cpu"),
        (["--random_seed", "3"], "seed_everything", 3),
    ],
    ids=lambda value: str(value),
)
def test_understood(cli, typed, where, value):
    found = printed(cli, "--model", "vae", *typed)
    for key in where.split("."):
        found = found[key]
    assert found == value


def test_what_was_understood_is_said(cli):
    err = cli("fit", "--lr", "3e-4", "--epochs", 1, "--model", "gan", "--print_config")[2]
    assert err.splitlines() == ["--lr is --model.lr, --epochs is --trainer.max_epochs"]


def test_where_checkpoints_and_folders_are_named_so(cli):
    out = cli("fit", "--model", "gan", "--out_dir", "here", "--max_steps", 2, "--wandb", "off")[1]
    assert "run: here/gan-digits/1" in out
    status, out, err = cli("evaluate", "--ckpt_path", "here/gan-digits/1/checkpoints/last.ckpt")
    assert status == 0, err
    status, out, err = cli("fit", "--ckpt", "here/gan-digits/1/checkpoints/last.ckpt", "--max_steps", 3, "--wandb", "off")
    assert status == 0, err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--foo", 3], "no option --foo."),
        (["--latent-dims", 3], "Did you mean --model.latent_dim?"),
        (["--model.kl.wamup", 3], "Did you mean --model.kl.warmup?"),
        (["--model.kl.bta=3"], "Did you mean --model.kl.beta?"),
        (["--seed", "abc"], "--seed: invalid int value: 'abc'; a whole number, 0 or more, is needed"),
        (["--seed", "-5"], "--seed -5: 0 or more is needed"),
        (["--seed", 2**32], "seed 4294967296: a whole number from 0 to 4294967295"),
        (["--gpus", "two"], "-1 for all GPUs, or a list of them: 2,3"),
        (["--gpus", "2,,3"], "or a list of them: 2,3"),
        (["--gpus", "2,2"], "or a list of them: 2,3"),
        (["--checkpoint_every", "often"], "a number of batches (500), or of minutes (10m)"),
        (["--checkpoint_every", "0"], "a number of batches (500), or of minutes (10m)"),
        (["--name", "a/b"], "name a/b: letters, digits"),
        (["--name", "3"], "more than digits"),
        (["--model.lr", "-1"], "the optimizer of VAE can't be made: Invalid learning rate: -1.0"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss"], "as val/loss"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/foo"], "There are val/loss, val/elbo"),
        (["--model.prior", "habits_mine.NoSample"], "must define sample"),
        (["--model.prior", "habits_mine.ColdSample"], "can't be called as sample(n, temperature)"),
        (["--model.prior", "habits_mine.Raises"], "KeyError: 'oops' ("),
        (["--trainer.callbacks+=habits_mine.Watch"], "ValueError: n must be prime ("),
        (["--config", "recipes/flowp-cifar"], "Did you mean recipes/flowpp-cifar10?"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_mistakes_are_lines_and_write_nothing(cli, mine, typed, said):
    assert said in refused(cli, "--model", "vae", *typed)


def test_a_model_of_ones_own_that_raises(cli, mine):
    assert "RuntimeError: depth must be odd (" in refused(cli, "--model", "habits_mine.Model")


def test_a_logger_whose_package_is_missing(cli):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        said = refused(cli, "--model", "vae", "--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "x")
        assert "`tensorboard`" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trainer: {max_step: 3}", "no option trainer.max_step. Did you mean max_steps?"),
        ("model: {init_args: {latnt_dim: 3}}", "no option model.init_args.latnt_dim of VAE. Did you mean latent_dim?"),
        ("model: {latnt_dim: 3}", "no option model.latnt_dim of VAE. Did you mean latent_dim?"),
        ("model: {class_path: zoo.models.GAN, init_args: {widht: 3}}", "of GAN. Did you mean width?"),
        ("model: {init_args: {kl: {wamup: 3}}}", "no option model.init_args.kl.wamup of VAE. Did you mean warmup?"),
        ("data: {init_args: {batchsize: 3}}", "no option data.init_args.batchsize of Digits. Did you mean batch_size?"),
        ("trainr: {max_steps: 3}", "no setting trainr. Did you mean trainer?"),
        ("seed: 3", "no setting seed. Did you mean seed_everything?"),
        ("trainer: {callbacks: [{class_path: callbacks.SampleGrid, init_args: {sed: 3}}]}", "Did you mean seed?"),
        ("model: {init_args: {latent_dim: many}}", "latent_dim many: int is accepted."),
    ],
)
def test_a_mistake_in_a_file_names_the_file(cli, tmp_path, text, said):
    (tmp_path / "my settings.yaml").write_text(text)
    found = refused(cli, "--model", "vae", "--config", "my settings.yaml")
    assert "my settings.yaml: " in found
    assert said in found


def test_options_of_several_groups():
    known = ["--model.lr", "--data.lr", "--trainer.max_steps", "--model.a.x", "--model.b.x"]
    with pytest.raises(ZooError, match=r"but --model.lr and --data.lr: type the one"):
        as_typed_here("--lr", known[:2])
    with pytest.raises(ZooError, match=r"--model.a.x and --model.b.x"):
        as_typed_here("--x", known)
    assert as_typed_here("--max-steps", known) == "--trainer.max_steps"


def test_a_recipe_by_its_name(cli):
    found = printed(cli, "--model", "flowpp", "--config", "recipes/flowpp-cifar10")
    assert found["model"]["init_args"]["filters"] == 96
    assert {"recipes/flowpp-cifar10", "recipes/realnvp"} <= set(registry.recipes())
    for typed in ("recipes/realnvp.yaml", "configs/recipes/realnvp.yaml"):
        assert printed(cli, "--model", "flowpp", "--config", typed)


def test_names(cli):
    quick = ("--model", "gan", "--max_steps", 2, "--wandb", "off")
    assert "run: runs/gan-digits/wide" in cli("fit", *quick, "--name", "wide")[1]
    status, _, err = cli("fit", *quick, "--name", "wide")
    assert status == 2
    assert "runs/gan-digits/wide is there already" in err
    assert "run: runs/gan-digits/1" in cli("fit", *quick)[1], "numbers go on by themselves"
    quick = ("--model", "gan", "--max_steps", 4, "--wandb", "off")
    out = cli("fit", *quick, "--name", "wide", "--resume")[1]
    assert "going on with runs/gan-digits/wide/checkpoints/last.ckpt" in out
    out = cli("fit", *quick, "--name", "new", "--resume")[1]
    assert "run: runs/gan-digits/new" in out, "anew where there is none"
    status, _, err = cli("fit", "--ckpt_path", "runs/gan-digits/1/checkpoints/last.ckpt", "--name", "other")
    assert status == 2
    assert "a run goes on in its own folder" in err
    config = yaml.safe_load(Path("runs/gan-digits/wide/config.yaml").read_text())
    assert config["name"] is None, "the same settings run again under another name"


def test_a_finished_run_says_so(cli):
    cli("fit", "--model", "gan", "--max_steps", 2, "--wandb", "off")
    last = "runs/gan-digits/1/checkpoints/last.ckpt"
    status, out, err = cli("fit", "--ckpt_path", last)
    assert status == 0, err
    assert f"nothing was trained: with max_steps 2, the 2 batches that {last} has are all." in out
    assert not list(Path("runs/gan-digits/1").glob("config-*.yaml"))


def test_closing_lines_name_what_is_there(cli, tmp_path):
    (tmp_path / "bare.yaml").write_text("trainer: {callbacks: null}")
    out = cli("fit", "--model", "gan", "--config", "bare.yaml", "--max_steps", 2, "--wandb", "off")[1]
    assert "pictures:" not in out
    assert "metrics:  runs/gan-digits/1/metrics.csv" in out


def test_a_mistyped_root_makes_no_folders(cli, tmp_path, monkeypatch):
    import requests

    def unreachable(*args, **options):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", unreachable)
    for data in ("mnist", "cifar10"):
        assert "can't be downloaded" in refused(cli, "--model", "vae", "--data", data, "--data.root", "nowhere/deep")


def python(*arguments: str, cwd=REPOSITORY) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, check=False, timeout=300)


def test_commands_of_the_package():
    done = python("-m", "zoo", "fit", "--help")
    assert done.stdout.startswith("usage: python -m zoo.fit")
    assert python("-m", "zoo", "fit", "--modle", "gan").returncode == 2
    assert "Did you mean fit? There are fit" in python("-m", "zoo", "fti").stderr
    for words in (["zoo", "--version"], ["zoo.fit", "--version"], ["zoo.evaluate", "--version"]):
        assert python("-m", *words).stdout.startswith("zoo 0."), words
    assert "Models (--model NAME)" in python("-m", "zoo").stdout


def test_the_console_script_is_declared():
    assert "zoo = zoo.cli.main:run" in (REPOSITORY / "setup.cfg").read_text()


def test_completion_is_a_script_of_the_shell():
    with pytest.raises(ZooError, match="bash or zsh"):
        completion("fish")
    script = completion("bash") + '\nCOMP_WORDS=(zoo fit --model va); COMP_CWORD=3; _zoo; echo "${COMPREPLY[@]}"'
    script += '\nCOMP_WORDS=(zoo ev); COMP_CWORD=1; _zoo; echo "${COMPREPLY[@]}"'
    script += '\nCOMP_WORDS=(zoo fit --wan); COMP_CWORD=2; _zoo; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vae", "evaluate", "--wandb"]


def test_help_of_the_package_lists_what_there_is_and_imports_nothing():
    done = python("-c", "import sys, zoo; print('torch' in sys.modules); print(zoo.__doc__)")
    light, *text = done.stdout.splitlines()
    assert light == "False"
    for name in registry.MODELS:
        assert any(f"({name})" in line for line in text)
