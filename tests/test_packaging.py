"""An installed wheel works outside the repository; what is written of the package elsewhere is true of it."""

import os
import pkgutil
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

import zoo
from zoo import trained

SITE = Path(pytest.__file__).resolve().parent.parent  # where the packages that the wheel requires are
BIN = Path(sys.executable).parent


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_wheel(tmp_path):
    """Built from a copy of the repository, installed into a new environment beside what it requires, and used there."""
    run("git", "clone", "--quiet", REPOSITORY, tmp_path / "clone", cwd=tmp_path)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, tmp_path / "clone", cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"zoo/configs/gan.yaml", "zoo/fit.py", "datamodules/digits.py", "callbacks/ema.py"} <= set(names)
    assert {f"{package}/py.typed" for package in ("zoo", "datamodules", "callbacks")} <= set(names), "checked types"
    packages = {str(path.parent.relative_to(REPOSITORY)) for top in ("zoo", "datamodules", "callbacks")
                for path in (REPOSITORY / top).rglob("__init__.py")}  # fmt: skip
    assert packages <= {str(Path(name).parent) for name in names}, "setup.cfg names every package"
    assert {f"zoo/trained/{name}.{end}" for name in trained.names() for end in ("ckpt", "json")} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]

    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    (site / "requirements.pth").write_text(f"{SITE}\n")

    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import zoo, datamodules, callbacks; print(zoo.__file__)", cwd=empty)
    assert Path(where.strip()).is_relative_to(site)
    out = run(python, "-m", "zoo.fit", "--model", "gan", "--trainer.max_steps", 2, "--wandb", "off", cwd=empty)
    folder = empty / out.splitlines()[-1].removeprefix("run: ")
    assert (folder / "pictures" / "samples.png").exists()
    run(python, "-m", "zoo.sample", "--ckpt", folder / "checkpoints" / "last.ckpt", "--out", "x.npz", cwd=empty)
    assert (empty / "x.npz").exists()
    assert "dsprites" in run(python, "-m", "zoo", cwd=empty)
    run(python, "-m", "zoo.sample", "--model", "vae-digits", "--out", "trained.png", cwd=empty)
    assert (empty / "trained.png").exists()


def read_yaml(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / name).read_text())


def test_citation_names_the_version():
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == zoo.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_changes_have_sections():
    """What is new since the last release comes first."""
    sections = [line for line in (REPOSITORY / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert sections[0] == "## Unreleased"


def test_what_moved_is_where_the_changes_say():
    """The right-hand columns of the tables."""
    unreleased = (REPOSITORY / "CHANGELOG.md").read_text().split("\n## ")[1]
    moved = [line.rsplit(" | ", 1)[1] for line in unreleased.splitlines() if line.startswith("| `")]
    names = re.findall(r"`((?:zoo|callbacks|datamodules)\.[\w.]+)`", "".join(moved))
    assert len(names) > 25
    for name in names:
        assert pkgutil.resolve_name(name), name


def test_workflow_runs_the_tests():
    """By the command that everybody types, on the oldest Python that is accepted and a newer one."""
    (job,) = read_yaml(".github/workflows/test.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test"]
    assert job["strategy"]["matrix"]["python"][0] == "3.11"
    assert "python_requires = >=3.11" in (REPOSITORY / "setup.cfg").read_text()


def test_commit_hooks_run_what_is_installed():
    """The programs of the environment, so that their versions are those of constraints.txt."""
    for repository in read_yaml(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            program = hook["entry"].split()[0]
            assert program == "make" or (program.startswith(".venv/bin/") and shutil.which(Path(program).name, path=BIN))
