"""The pages of docs/: their Python runs, their commands do too, and what they name is there."""

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from benchmarks.gpu.__main__ import parse
from zoo import GAN, registry
from zoo.cli.command import Command
from zoo.cli.options import STUDY
from zoo.experiments.study_file import read_study

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUDGET = ["--wandb", "off", "--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1"]
BUDGET += ["--trainer.val_check_interval", "1.0"]
NOT_HERE = {"mnist", "fashion_mnist", "cifar10", "shapes3d", "smallnorb", "cars3d"}  # a download, or minutes of training
NOT_HERE |= {"mnist_binary", "mnist_binary_static", "stacked_mnist"}
NOT_HERE |= {"dsprites", "color_dsprites", "noisy_dsprites", "background_dsprites", "scream_dsprites"}


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request) -> Path:
    return request.param


def runs_here(command: Command) -> bool:
    """Whether this machine has the GPUs and the data of a training; several processes are tested in test_fit.py."""
    pictures = next((value for key, value in pairwise(command.rest) if key == "--data.root"), "")
    return (
        (command.gpus or 0) <= torch.cuda.device_count()
        and command.data not in NOT_HERE
        and (command.data != "folder" or Path(pictures).is_dir())
        and "--trainer.devices" not in command.rest
    )


def run_command(typed: list[str], monkeypatch) -> None:
    """``python -m zoo...`` in this process; trainings are cut to a few batches, or to the configuration alone."""
    module, arguments = typed[0], typed[1:]
    if module == "zoo.fit" and not {"--help", "--print_config"} & set(arguments):
        command = Command(arguments)
        if runs_here(command):
            arguments += ["--trainer.max_steps", "30" if command.ckpt_path else "21", *BUDGET]  # 21 are an epoch of digits
        else:
            arguments.append("--print_config")
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as leave:
        assert not leave.code, " ".join(typed)


def run_commands(block: str, monkeypatch) -> None:
    """A block of commands: those of the zoo run, ``make`` has its targets, others are taken as they are."""
    for line in block.splitlines():
        match shlex.split(line, comments=True):
            case ["python", "-m", "benchmarks.gpu", *typed]:  # it takes minutes, and has tests of its own
                parse(typed)
            case ["python", "-m", "zoo.study", file, *typed]:  # it takes minutes, and has tests of its own
                values, words = STUDY.read([file, *typed])
                changes = {name: values[name] for name in ("out", "seeds", "only", "workers", "minutes") if name in values}
                assert words == [file] and read_study(file, changes=values.get("set", ()), **changes).runs
            case ["python", "-m", *typed]:
                kept = [str(REPOSITORY / word) if word.startswith("results/") else word for word in typed]
                run_command(kept, monkeypatch)
            case ["make", target]:
                assert f"\n{target}:" in (REPOSITORY / "Makefile").read_text(), line


def run_python(block: str, names: dict, where: str) -> None:
    """A block of Python: a session whose output is compared, or statements."""
    if not block.startswith(">>>"):
        exec(compile(block, where, "exec"), names)
        return
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(block, names, where, where, 0)
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert not failed, "".join(said)
    names.update(test.globs)


def test_page(page, tmp_path, monkeypatch):
    """All blocks in their order, in an empty folder; a block whose first line is a file's name is that file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    text = page.read_text()
    names: dict = {}
    for block in FENCE.finditer(text):
        language, code = block.groups()
        if named := re.match(r"# (\w+\.(?:py|yaml))\n", code):
            (tmp_path / named[1]).write_text(code)
            monkeypatch.delitem(sys.modules, Path(named[1]).stem, raising=False)
        elif language == "python":
            run_python(code, names, f"{page.name}, line {text.count(chr(10), 0, block.start()) + 1}")
        elif language == "console":
            run_commands(code, monkeypatch)


def test_links_and_names_exist(page):
    """Links to other pages, paths in the repository, and dotted names of the code."""
    text = FENCE.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (DOCS / link).is_file(), link
    for word in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"(zoo|datamodules|callbacks|configs|tests|docs|benchmarks)/[\w./-]*", word):
            assert (REPOSITORY / word).exists(), word
        elif re.fullmatch(r"(zoo|datamodules|callbacks)(\.\w+)+", word):
            assert pkgutil.resolve_name(word), word
        elif re.fullmatch(r"GAN(\.\w+)(\(.*\))?", word):
            assert word.partition(".")[2].partition("(")[0] in {*dir(GAN), "discriminator", "generator"}, word


def test_formulas_can_be_set(page):
    """What the page builder's MathML does not know would stop `make docs`."""
    mathml = pytest.importorskip("docutils.utils.math.latex2mathml")
    text = FENCE.sub("", page.read_text())
    for formula in re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL) + re.findall(r"(?<!\$)\$([^$`]+)\$(?!\$)", text):
        mathml.tex2mathml(formula)


def test_formulas_are_set_as_tex_would(monkeypatch):
    """A thin space after a function's name, what is said of a brace below it, and one bar in a condition."""
    pytest.importorskip("sphinx")
    nodes = pytest.importorskip("docutils.nodes")
    monkeypatch.syspath_prepend(DOCS)
    formula = importlib.import_module("conf").formula
    made = formula(nodes.math(text=r"\log p(x \mid z) + \log(1)"))
    assert made.count("mspace") == 1 and 'stretchy="false">\u2223' in made
    assert "<munder><munder>" in re.sub(r"\s", "", formula(nodes.math(text=r"\underbrace{x}_{\text{data}}")))
    bars = formula(nodes.math(text=r"\mathbb{E}_q \log \lvert \det A \rvert + \lVert w \rVert - \mathrm{KL}(q \Vert p)"))
    forms = re.findall(r'form="(\w+)"', bars)
    assert forms == ["prefix", "postfix", "prefix", "postfix", "infix"]
    assert bars.count("mspace") == 2, "between E and log, and between det and A"


def test_pictures_are_small_and_shown():
    """Each is on a page, and loads at once."""
    shown = "".join(page.read_text() for page in (*PAGES, REPOSITORY / "README.md"))
    for picture in (DOCS / "pictures").glob("*.png"):
        assert f"pictures/{picture.name})" in shown, picture.name
        assert picture.stat().st_size < 100_000, picture.name


def test_pages_are_complete():
    """Every registered data set is described, and the index lists every page; the API lists itself."""
    data, index = ((DOCS / name).read_text() for name in ("data.md", "index.md"))
    assert [name for name in registry.DATA if f"[`{name}`](#" not in data] == [], "docs/data.md lacks these"
    assert [page.name for page in PAGES if page.stem != "index" and f"]({page.name})" not in index] == []
