"""Help and lists on a terminal that is narrower than they are."""

import os
import re
import shutil
import sys
import textwrap

__all__ = ["fitted"]

_LEAST = 40  # columns, below which nothing can be laid out


def fitted(text: str) -> str:
    """The text with lines that are longer than the terminal broken, under their second column where they have one.

    Where there is no terminal, and COLUMNS does not say how wide one is, it stays as it is.
    """
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return text
    columns = max(shutil.get_terminal_size().columns, _LEAST)
    return "\n".join(_broken(line, columns) if len(line) > columns else line for line in text.splitlines())


def _broken(line: str, columns: int) -> str:
    second = re.match(r"(\s*\S.*?\s{2,}|\s*--\S+(?: \[?[A-Z.]+\]?)? |\s*)(?=\S)", line)
    indent = len(second[0]) if second is not None and len(second[0]) < columns // 2 else 4
    return textwrap.fill(line, columns, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True)
