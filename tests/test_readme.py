"""Every command and every line of Python in the README does what it says; long trainings are cut to two batches."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

from datamodules import mnist
from zoo import registry
from zoo.experiments.study_file import read_study

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture
def home_with_mnist(tmp_path, monkeypatch):
    """A home folder whose data/ has a black MNIST, which is taken for the real one."""
    shapes = {"x_train": (60_000, 28, 28), "y_train": (60_000,), "x_test": (10_000, 28, 28), "y_test": (10_000,)}
    arrays = {key: np.zeros(shape, np.uint8) for key, shape in shapes.items()}
    (tmp_path / "data").mkdir()
    np.savez_compressed(tmp_path / "data" / "mnist.npz", **arrays)
    monkeypatch.setattr(mnist.MNIST, "content_md5", {key: mnist._idx_md5(array) for key, array in arrays.items()})
    return tmp_path


def test_there_are_commands():
    assert {command.split()[0] for command in COMMANDS} == {"make", "python"}
    assert COMMANDS[:2] == ["make fit", "make test"], "two commands do all the set-up"


@pytest.mark.parametrize("target", ["fit", "test", "slow", "coverage", "docs"])
def test_make_targets(target):
    """What ``make`` would do; the trainings and tests themselves are run by other tests and by whoever reads the README."""
    done = subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    expected = {"fit": "-m zoo.fit --model gan", "test": "-m pytest", "slow": "slow or not slow", "docs": "-m sphinx"}
    expected["coverage"] = "--cov-report=html"
    assert expected[target] in done.stdout


def test_commands_in_their_order(cli, home_with_mnist):
    """Each command runs; of those that need GPUs or start processes (see test_fit.py), the configuration is made."""
    for command in COMMANDS:
        typed = shlex.split(command.replace("~", str(home_with_mnist)).replace(" results/", f" {REPOSITORY}/results/"))
        if typed[0] != "python":
            continue
        name, arguments = typed[2].removeprefix("zoo."), typed[3:]
        if name == "study":  # it takes minutes, and has tests of its own
            assert read_study(arguments[0]).runs
            continue
        if "--trainer.max_steps" in arguments:
            at = arguments.index("--trainer.max_steps")
            del arguments[at : at + 2]
        if "--gpus" in arguments or "--trainer.devices" in arguments:
            arguments.append("--print_config")
        elif name == "fit":
            arguments += ["--trainer.max_steps", "4" if "--ckpt_path" in arguments else "2"]
            arguments += ["--trainer.limit_val_batches", "1"]
        status, out, err = cli(name, *arguments)
        assert status == 0, f"{command}: {err}"
        assert out
    for made in ("grid.png", "samples.npz", "runs/gan-digits/1/evaluation.json", "runs/gan-mnist/1/pictures/samples.png"):
        assert Path(made).exists(), made


def test_the_table_is_what_its_command_writes(cli, tmp_path):
    """Of the committed records; all registered models are in it, and the rows that say what scores mean."""
    (command,) = (line for line in COMMANDS if "zoo.compare results/digits" in line)
    typed = shlex.split(command.replace(" results/", f" {REPOSITORY}/results/"))
    status, _, err = cli("compare", *typed[3:])
    assert status == 0, err
    written = [line for line in (tmp_path / "comparison" / "table.md").read_text().splitlines() if line.startswith("|")]
    assert "\n".join(written) in README
    rows = [line.split("|")[1].strip().replace("\\", "") for line in written]
    assert [name for name in registry.MODELS if name not in rows] == []
    assert rows[-3:] == ["*real*", "*training set*", "*half of the modes*"]


def test_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["x"].shape == (16, 1, 8, 8)
    assert int(names["x"].max()) <= 16


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    """Files, and headings of the pages."""
    for link in re.findall(r"\]\(([^)]+)\)", (REPOSITORY / page).read_text()):
        file, _, heading = link.partition("#")
        assert (REPOSITORY / file).exists(), link
        headings = re.findall(r"^#+ (.*)$", (REPOSITORY / file).read_text(), re.MULTILINE) if heading else ()
        assert not heading or heading in {text.lower().replace(" ", "-") for text in headings}, link
