"""Conditions on a comparison, ``nll > baseline + ci``, by which a program can fail."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from zoo.errors import ZooError
from zoo.experiments.cells import Column, Compared
from zoo.experiments.quantities import better, leaf

__all__ = ["met"]

_COMPARED: dict[type, Callable[[float, float], bool]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}
_SIGNS: dict[Any, str] = {operator.gt: ">", operator.ge: ">=", operator.lt: "<", operator.le: "<="}
_COMPUTED: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def met(comparison: Compared, condition: str) -> list[str]:
    """The rows that fulfill a condition, in a line each.

    Arguments:
        comparison: The comparison.
        condition: ``METRIC > EXPRESSION``, or with ``<``, ``>=``, ``<=``. The expression is made of numbers, ``+ - * /``,
            ``baseline`` and ``best``, the means of the reference row and of the best one of the column, and ``ci``, half of
            the width of the difference's 95 % interval. Rows are compared within blocks; one without a number fulfills
            nothing.

    Returns:
        The lines.

    Raises:
        ZooError: for a condition that is none, a metric that there is not, and ``ci`` where there is no interval.
    """
    compare, metric, expression = _parsed(condition)
    found, seen = [], False
    for block in comparison.blocks:
        for column in block.columns:
            if leaf(column.metric) != metric:
                continue
            seen = True
            for row in block.rows:
                cell = column.cells[row.name]
                if cell.summary is None or row.name == column.reference:
                    continue
                bound = _value(expression, _names(column, row.name), condition)
                if compare(cell.summary.mean, bound):
                    sign = _SIGNS[compare]
                    found.append(f"{row.name}: {metric} {cell.summary.mean:.6g} {sign} {bound:.6g}")
    if not seen:
        raise ZooError(f"--fail-if {condition}: no metric {metric} in the comparison.")
    return found


def _parsed(condition: str) -> tuple[Callable[[float, float], bool], str, ast.expr]:
    try:
        tree: ast.expr | None = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if (
        not isinstance(tree, ast.Compare)
        or len(tree.ops) != 1
        or type(tree.ops[0]) not in _COMPARED
        or not isinstance(tree.left, ast.Name)
    ):
        raise ZooError(f"--fail-if {condition[:100]}: METRIC > EXPRESSION is needed, as in 'nll > baseline + ci'.")
    return _COMPARED[type(tree.ops[0])], tree.left.id, tree.comparators[0]


def _names(column: Column, row: str) -> dict[str, float | None]:
    means = {name: cell.summary.mean for name, cell in column.cells.items() if cell.summary is not None}
    versus = column.cells[row].versus
    best = None
    if better(column.metric) is not None:
        best = (min if better(column.metric) == "lower" else max)(means.values())
    known = versus is not None and versus.half_width == versus.half_width
    return {
        "baseline": means.get(column.reference or ""),
        "best": best,
        "ci": versus.half_width if versus is not None and known else None,
    }


def _value(node: ast.expr, names: dict[str, float | None], condition: str) -> float:
    """The value of an expression; nothing but numbers, the names and four operations is computed."""
    if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        left, right = _value(node.left, names, condition), _value(node.right, names, condition)
        try:
            return _COMPUTED[type(node.op)](left, right)
        except ZeroDivisionError:
            raise ZooError(f"--fail-if {condition}: it divides by 0.") from None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, names, condition)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in names:
        known: Any = names[node.id]
        if known is None:
            why = "two seeds of each row, or log p of each example, are needed" if node.id == "ci" else "no row has it"
            raise ZooError(f"--fail-if {condition}: {node.id} is not known: {why}.")
        return float(known)
    raise ZooError(f"--fail-if {condition[:100]}: numbers, + - * /, baseline, best and ci are accepted.")
