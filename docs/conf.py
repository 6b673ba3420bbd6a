"""Sphinx: MyST pages, the API from docstrings, and formulas as MathML, so that the pages can be read without a network."""

import importlib
import re
import sys
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = html_title = "The zoo"
html_theme = "furo"
html_copy_source = html_show_copyright = html_show_sphinx = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes and kinds
napoleon_use_ivar = True
html_math_renderer = "mathml"


class Everything(SphinxDirective):
    """``{everything} package``: each name of the package's ``__all__``, so that the page of the API is never behind."""

    required_arguments = 1

    def run(self):
        """Entries of the package's classes, functions and constants."""
        (name,) = self.arguments
        package = importlib.import_module(name)
        kinds = {each: _kind(getattr(package, each)) for each in package.__all__}
        entries = [f".. auto{kind}:: {name}.{each}\n" + "   :members:\n" * (kind == "class") for each, kind in kinds.items()]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", f".. py:currentmodule:: {name}\n", *entries, "```"]))


def _kind(value):
    """Which of autodoc's directives documents it."""
    return "class" if isinstance(value, type) else "function" if callable(value) else "data"


def plain_formulas(app, what, name, obj, options, lines):
    """A star or bar in a docstring is a product, a norm or ``*shape``, not markup; literals, formulas and blocks stay."""
    doctest, formula = False, None  # the column at which a display formula was announced
    for number, line in enumerate(lines):
        column = len(line) - len(line.lstrip())
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        if line.lstrip().startswith(".. math::"):
            formula = column
        elif line.strip() and formula is not None and column <= formula:
            formula = None
        if not doctest and formula is None and not line.lstrip().startswith("| "):
            parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)
            lines[number] = "".join(part if part[:1] in ("`", ":") else re.sub(r"[*|]", r"\\\g<0>", part) for part in parts)


def inline_math(translator, node):
    """A formula in a line."""
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def display_math(translator, node):
    """A formula on a line of its own."""
    translator.body.append(tex2mathml(node.astext()).replace("<math ", '<math display="block" ', 1))
    raise SkipNode


def setup(app):
    """Connect the above."""
    app.add_directive("everything", Everything)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("autodoc-process-docstring", plain_formulas, priority=400)  # before napoleon
