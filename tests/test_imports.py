"""Imports run one way: for every package and every file at the root of `zoo/`, what it may import of ours."""

import ast
import importlib
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import REPOSITORY

import zoo
from zoo import registry

ROOTS = ("zoo", "datamodules", "callbacks")
FILES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for root in ROOTS
    for path in (REPOSITORY / root).rglob("*.py")
}

# Small modules that several packages use; none of them knows a package.
LOW = {
    "zoo.errors": (),
    "zoo.precision": (),
    "zoo.environment": (),
    "zoo.lightning": (),
    "zoo.pickles": (),
    "zoo.bolts": (),
    "zoo.spec": ("zoo.errors",),
    "zoo.data_check": ("zoo.errors", "zoo.spec"),
    "zoo.registry": ("zoo.errors",),
    "zoo.options": ("zoo.errors", "zoo.registry"),
    "zoo.files": ("zoo.errors",),
    "zoo.trained": ("zoo.errors", "zoo.files", "zoo.registry"),
    "zoo.lean_batch": (),
    "zoo.batches": ("zoo.lean_batch", "zoo.lightning"),
    "zoo.progress": (),
    "zoo.optimizers": ("zoo.errors", "zoo.registry"),
    "zoo.resuming": ("zoo.errors", "zoo.batches", "zoo.lightning"),
    "zoo.distributed": ("zoo.errors",),
    "zoo.schedules": ("zoo.errors", "zoo.distributed", "zoo.options", "zoo.registry"),
    "zoo.plots": ("zoo.spec", "zoo.errors"),
}
INNER = ("zoo.metrics.disentanglement", "zoo.metrics.two_sample", "zoo.experiments.analysis")  # packages within one
BASE = ("zoo.errors", "zoo.spec", "zoo.precision", "zoo.distributed", "zoo.progress")
SMALL = (*BASE, "zoo.optimizers", "zoo.options", "zoo.registry", "zoo.files", "zoo.pickles", "zoo.schedules",
         "zoo.lightning", "zoo.plots", "zoo.environment")  # fmt: skip
COMMANDS = ("zoo.fit", "zoo.sample", "zoo.encode", "zoo.evaluate", "zoo.compare", "zoo.study", "zoo.__main__")
ALLOWED = {
    **LOW,
    **dict.fromkeys(COMMANDS, ("zoo.cli",)),
    "zoo": ("zoo.registry", "zoo.runs", "zoo.evaluation", "zoo.models", "zoo.metrics", "zoo.plots", "zoo.trained"),
    "zoo.nets": BASE,
    "zoo.transforms": ("zoo.nets", *BASE),
    "zoo.distributions": ("zoo.transforms", "zoo.nets", "zoo.options", "zoo.registry", *BASE),
    "zoo.metrics": ("zoo.distributions", "zoo.registry", *BASE),
    "zoo.metrics.disentanglement": ("zoo.registry", *BASE),
    "zoo.metrics.two_sample": BASE,
    "zoo.models": ("zoo.distributions", "zoo.metrics", "zoo.transforms", "zoo.nets", "zoo.lightning",
                   "zoo.batches", "zoo.optimizers", "zoo.options", "zoo.registry", "zoo.resuming", "zoo.schedules",
                   "zoo.data_check", *BASE),
    "zoo.evaluation": ("zoo.data_check", "zoo.models", "zoo.metrics", "zoo.nets", *SMALL),
    "zoo.runs": ("callbacks", "zoo.models", "zoo.trained", "zoo.batches", *SMALL),
    "zoo.experiments": ("zoo.runs", "callbacks", "zoo.models", "zoo.batches", "zoo.data_check", "zoo.resuming",
                        "zoo.lightning", "zoo.registry", "zoo.files", "zoo.spec", "zoo.errors", "zoo.progress"),
    "zoo.experiments.analysis": ("zoo.experiments", "zoo.runs", "zoo.registry", "zoo.files", "zoo.errors"),
    "zoo.cli": ("zoo.experiments", "callbacks", "zoo.resuming", "zoo.runs", "zoo.evaluation", "zoo.models", "zoo.trained",
                *SMALL),
    "datamodules": ("zoo.spec", "zoo.data_check", "zoo.errors", "zoo.files", "zoo.lightning", "zoo.options", "zoo.pickles",
                    "zoo.progress", "zoo.resuming"),
    "callbacks": ("zoo.evaluation", "zoo.metrics", "zoo.models.base", "zoo.plots", "zoo.lightning", "zoo.batches",
                  "zoo.options", *BASE),
}  # fmt: skip


def within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def home(module: str) -> str:
    """The package, or the file at the root of `zoo/`, that a module is in."""
    return module if FILES[module].name == "__init__.py" or module.rpartition(".")[0] == "zoo" else module.rpartition(".")[0]


def imports(path: Path) -> set[str]:
    """Our modules that a file imports, at its head or later, for types or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            submodules = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name if name in FILES else node.module for name in submodules}
    return {name for name in found if name.partition(".")[0] in ROOTS}


def test_every_package_and_root_file_is_in_the_table():
    assert {home(module) for module in FILES} == set(ALLOWED)


@pytest.mark.parametrize("place", ALLOWED)
def test_imports_run_one_way(place):
    """What docs/map.md says of who knows whom."""
    known = (place, *ALLOWED[place]) if place != "zoo" else ALLOWED[place]
    for module, path in FILES.items():
        if home(module) == place:
            foreign = [name for name in imports(path) if not any(within(name, allowed) for allowed in known)]
            assert not foreign, f"{path.relative_to(REPOSITORY)} imports {foreign}; {place} may import {known}"


def test_the_map_draws_it():
    """Every package and file of the table is in the drawing of docs/map.md, and may import what stands below it alone."""
    (drawing,) = re.findall(r"^```text\n(.*?)^```$", (REPOSITORY / "docs" / "map.md").read_text(), re.MULTILINE | re.DOTALL)
    drawn = re.findall(r"[a-z][\w.]+", drawing)
    assert set(drawn) == set(ALLOWED) - {"zoo", *INNER}
    for place in drawn:
        above = drawn[: drawn.index(place)]
        assert not [name for name in ALLOWED[place] for other in above if within(name, other)], place


def test_the_command_line_is_parsed_in_its_own_package():
    """What a command does is typed functions; `zoo/lightning.py` names a parser's type alone."""
    others = {module: path for module, path in FILES.items() if not within(module, "zoo.cli") and module != "zoo.lightning"}
    parsers = re.compile(r"^\s*(?:from|import) (?:argparse|jsonargparse|pytorch_lightning\.cli)\b", re.MULTILINE)
    assert [module for module, path in others.items() if parsers.search(path.read_text())] == []


def test_no_circle():
    graph = {module: imports(path) & FILES.keys() for module, path in FILES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_circle_and_a_late_import_are_noticed(tmp_path):
    (tmp_path / "late.py").write_text("def f():\n    from zoo import registry\n    from zoo.cli.main import main\n")
    assert imports(tmp_path / "late.py") == {"zoo.registry", "zoo.cli.main"}
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def for_type_checkers(package: str) -> dict[str, str]:
    """What a package imports for type checkers alone, with the modules that have it."""
    blocks = [node for node in ast.parse(FILES[package].read_text()).body if isinstance(node, ast.If)]
    return {name.name: node.module for block in blocks for node in block.body for name in node.names}


LAZY = ("callbacks", "datamodules", "zoo.models")


@pytest.mark.parametrize("package", LAZY)
def test_classes_that_are_imported_when_asked_for(package):
    """What a type checker reads is what is imported, and tab completion lists it before it is."""
    module, typed = importlib.import_module(package), for_type_checkers(package)
    assert sorted(typed) == sorted(module.__all__)
    assert {*module.__all__} <= {*dir(module)}
    assert {name: getattr(module, name).__module__ for name in typed} == typed
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_what_zoo_offers():
    """Every registered model, ``load`` and the packages, all of which tab completion lists."""
    registered = {entry.path.rpartition(".")[2] for entry in registry.MODELS.values()}
    packages = {name for name, module in for_type_checkers("zoo").items() if module == "zoo"}
    assert {*zoo.__all__} == {*for_type_checkers("zoo")} == {"load"} | packages | registered
    assert {*zoo.__all__} <= {*dir(zoo)}
    assert [name for name in zoo.__all__ if getattr(zoo, name).__name__.rpartition(".")[2] != name] == []
