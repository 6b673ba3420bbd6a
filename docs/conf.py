"""Sphinx: MyST pages, the API from docstrings, and formulas as MathML, so that the pages can be read without a network."""

import importlib
import re
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = html_title = "The zoo"
html_theme = "furo"
html_copy_source = html_show_copyright = html_show_sphinx = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "static"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes and kinds
napoleon_use_ivar = True
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["formulas.css"]
MATHML = "http://www.w3.org/1998/Math/MathML"
BARS = ("|", "\u2016")
LEANING = tuple("FHIJKMNPTUVWXYZ")  # letters that reach into the space behind them
BREAKS = ("=", "\u2264", "\u2265", "\u223c", "\u2248", "+", "\u2212")


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


def formula(node):
    """A formula as MathML, set as TeX would: what docutils makes of it, and what browsers need besides."""
    ElementTree.register_namespace("", MATHML)
    root = ElementTree.fromstring(tex2mathml(node.astext()).replace("&ApplyFunction;", "\u2061"))
    for parent in list(root.iter()):
        children = list(parent)
        set_bars(children)
        for before, child in pairwise(children):
            if before.text == "\u2061" and not child.tag.endswith("}mo"):  # the name of a function, and no parenthesis
                parent.insert(list(parent).index(child), ElementTree.Element(f"{{{MATHML}}}mspace", width="0.17em"))
        for before, name, applied in zip(children, children[1:], children[2:], strict=False):
            if applied.text == "\u2061" and is_operand(before):  # what is before the name, as in E log p
                parent.insert(list(parent).index(name), ElementTree.Element(f"{{{MATHML}}}mspace", width="0.17em"))
        if parent.tag.endswith("}msub") and children[0].tag.endswith("}munder"):  # what is said of a brace
            parent.tag = f"{{{MATHML}}}munder"
        if parent.tag.endswith("}mo") and parent.text in ("\u2225", "\u2016", "\u2223"):  # relations, not delimiters
            parent.set("stretchy", "false")
    return ElementTree.tostring(root, encoding="unicode")


def set_bars(siblings):
    """Let bars around something stand close to it, as high as the line, and give one between two things room."""
    opened, before = set(), None
    for bar in siblings:
        first = before is None or (before.tag.endswith("}mo") and not is_operand(before))
        opens = bar.get("class") == "mathopen" or (bar.text == "\u2016" and first)
        if bar.tag.endswith("}mo") and bar.text in BARS and (opens or bar.text in opened):
            bar.attrib.update(form="postfix" if bar.text in opened else "prefix", stretchy="false", lspace="0", rspace="0")
            opened ^= {bar.text}
        elif bar.tag.endswith("}mo") and bar.text == "\u2016" and before is not None and is_operand(before):
            bar.attrib.update(form="infix", lspace="0.2em", rspace="0.2em")
        before = bar


def is_operand(element):
    """Whether a formula's element is a thing, or the end of one, and no operator."""
    name = element.tag.rpartition("}")[2]
    return element.text in (")", "]") if name == "mo" else name != "mspace"


def inline_math(translator, node):
    """A formula in a line, which may break behind its relations, sums and differences, and not before a comma."""
    whole = ElementTree.fromstring(formula(node))
    parts = [[]]
    for child in whole:
        parts[-1].append(child)
        if child.tag.endswith("}mo") and child.text in BREAKS and len(parts[-1]) > 1:
            parts.append([])
    for part in filter(None, parts):
        element = ElementTree.Element(whole.tag, whole.attrib)
        element.extend(part)
        translator.body.append(ElementTree.tostring(element, encoding="unicode"))
    if whole[-1:] and whole[-1].text in LEANING:
        translator.body[-1] = translator.body[-1].replace("</math>", '<mspace width="0.12em" /></math>')
    behind = node.next_node(descend=False, siblings=True)
    if behind is not None and behind.astext()[:1] in ".,;:)":
        translator.body.append("\u2060")  # keeps the line together
    raise SkipNode


def display_math(translator, node):
    """A formula on a line of its own."""
    block = formula(node).replace("<math ", '<math display="block" ', 1)
    translator.body.append(f'<div class="formula">{block}</div>')
    raise SkipNode


def setup(app):
    """Connect the above."""
    app.add_directive("everything", Everything)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("autodoc-process-docstring", plain_formulas, priority=400)  # before napoleon
