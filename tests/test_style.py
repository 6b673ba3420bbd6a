"""House style that ruff does not know: where ``__all__`` stands, what is in docstrings and in which order, spelling."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGES = ("zoo", "datamodules", "callbacks")
FILES = [path for top in PACKAGES for path in sorted((REPOSITORY / top).rglob("*.py"))]
TREES = {path.relative_to(REPOSITORY): ast.parse(path.read_text()) for path in FILES}

# As zuko has them: what it is, with its formula, comes before all of these.
SECTIONS = ("Arguments", "Attributes", "Returns", "Yields", "Raises", "Warns", "References", "See also", "Example")
OTHERS = ("Args", "Parameters", "Return", "Raise", "Source", "Sources", "Reference", "Examples", "Note", "Notes")
HEADING = re.compile(rf"^({'|'.join(SECTIONS + OTHERS)}):(.*)$", re.MULTILINE)

STEMS = (
    *("amort", "binar", "capital", "categor", "central", "character", "custom", "discret", "emphas", "factor", "final"),
    *("general", "initial", "linear", "local", "maxim", "memor", "minim", "neutral", "normal", "optim", "organ"),
    *("orthogonal", "parametr", "penal", "priorit", "quant", "random", "real", "recogn", "regular", "serial", "special"),
    *("stabil", "standard", "summar", "symmetr", "synchron", "token", "util", "vector", "visual"),
)
BRITISH = re.compile(
    r"\w*(?:colour|favour|behaviour|neighbour|honour|labour|flavour|rigour)\w*"
    r"|\w*(?:analyse|modelled|modelling|labelled|labelling|cancelled|cancelling|travelled)\w*"
    r"|grey\w*|centre[ds]?|metres?|fibres?|licence|defence|programmes?|catalogues?|dialogues?|artefacts?|fulfils?"
    r"|learnt|whilst|amongst"
    rf"|\w*(?:{'|'.join(STEMS)})is(?:e|ed|es|er|ers|ing|ation|ations)",
    re.IGNORECASE,
)
TITLES = ("Disentangling by Factorising", "Disentanglement in Generalisation")  # of papers, which stay as they are


def test_all_follows_imports():
    """``__all__`` is the first statement after the imports; a module that defines nothing needs none."""
    wrong = []
    for path, tree in TREES.items():
        body = [node for node in tree.body if not _imports(node)][1:]  # without the docstring
        defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign) for node in body)
        if defines and not ast.unparse(body[0]).startswith("__all__"):
            wrong.append(f"{path}: __all__ is not the first statement after the imports")
        if defines and any(_imports(node) for node in tree.body[tree.body.index(body[0]) :]):
            wrong.append(f"{path}: imports after __all__")
    assert wrong == []


def _imports(node: ast.stmt) -> bool:
    """Whether it imports and does nothing else: also on one system alone, or where a module may be missing."""
    if isinstance(node, ast.If | ast.Try):
        return all(map(_imports, node.body))
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_docstrings():
    """What is public has one: its own, or that of the method of ours which it overrides."""
    lacking = [f"{path}" for path, tree in TREES.items() if not ast.get_docstring(tree)]
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and _public(node) and not ast.get_docstring(node):
                lacking.append(f"{path}: {node.name}")
            if isinstance(node, ast.ClassDef) and _public(node):
                cls = getattr(importlib.import_module(_module(path)), node.name)
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and _public(each)]
                lacking += [f"{path}: {node.name}.{each.name}" for each in methods if not _documented(cls, each.name)]
    assert lacking == []


def _public(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return not node.name.startswith("_")


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _documented(cls: type, method: str) -> bool:
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in PACKAGES]
    return any(getattr(vars(base).get(method), "__doc__", None) for base in ours)


def test_sections_of_docstrings():
    """They have these names, stand in this order, and each begins on a line of its own."""
    wrong = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            found = HEADING.findall(ast.get_docstring(node) or "")
            names, where = [name for name, _ in found], f"{path}: {getattr(node, 'name', 'the module')}"
            if any(rest.strip() for _, rest in found):
                wrong.append(f"{where}: the text of a section begins on the line after its name")
            if names != sorted({*names} & {*SECTIONS}, key=SECTIONS.index):
                wrong.append(f"{where}: {', '.join(names)}")
    assert wrong == [], f"in this order: {', '.join(SECTIONS)}"


def _british(path: Path) -> Iterator[str]:
    """The words of a file that are British; those that snake_case and CamelCase are made of count as words."""
    text = path.read_text()
    for title in TITLES:
        text = text.replace(title, "")
    for word in {*re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}:
        if BRITISH.fullmatch(word):
            yield word


def test_american_spelling():
    """In what people read and type: identifiers, options, docstrings, comments, presets and pages."""
    presets, pages = sorted((REPOSITORY / "configs").rglob("*.yaml")), sorted((REPOSITORY / "docs").glob("*.md"))
    pages += [path for path in sorted(REPOSITORY.glob("*.md")) if path.name != "CHANGELOG.md"]  # which has the old names
    files = [*FILES, *presets, *pages]
    assert [f"{path.relative_to(REPOSITORY)}: {word}" for path in files for word in _british(path)] == []


@pytest.mark.parametrize(
    "name",
    ["colour_map", "initialise", "NormalisedFlow", "discretised_logistic", "bin_centres", "GREY", "modelling", "Optimiser"],
)
def test_british_spelling_is_found(name, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(f'"""Disentangling by Factorising."""\n{name} = otherwise = precise = realistic = analysis = 0\n')
    assert len([*_british(file)]) == 1
