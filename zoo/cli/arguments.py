"""The arguments of a command as one table: what is understood and refused, ``--help``, and what the parser is told."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from zoo import registry, trained
from zoo.cli.habits import SHORT
from zoo.errors import ZooError

__all__ = ["Argument", "Arguments"]

_SHORT = {"-h": "--help", "-c": "--config"}
_GROUP = ".OPTION"  # ends the name of all arguments with one beginning, such as --data.root


@dataclass(frozen=True)
class Argument:
    """One argument of a command, ``--name VALUE`` or ``--name=VALUE``.

    Attributes:
        name: The name without dashes; ``data.OPTION`` stands for all that begin with ``data.``.
        help: Its lines in ``--help``, where it is left out if there are none.
        metavar: What the value is called there.
        type: ``str``, ``int``, ``float``, ``bool``, ``Path`` or a ``Literal``; ``list`` for a number of GPUs or their
            numbers; None for what is handed on as it was typed.
        default: The value where it is not typed.
        required: Whether it must be typed.
        least: The least number that is accepted.
        endings: The endings of a file's name that are accepted.
        entries: The registered names that are accepted, beside dotted paths of classes.
        several: Whether it may be typed several times; the value is then a list.
        setting: Whether it is stored in ``config.yaml``, and so is an argument of the parser too.
        optional: Whether the value may be left out; it is then empty.
        expected: What is accepted, in the words of an error, where the type does not say it.
    """

    name: str
    help: str = ""
    metavar: str = ""
    type: Any = None
    default: Any = None
    required: bool = False
    least: int | None = None
    endings: tuple[str, ...] = ()
    entries: Mapping[str, registry.Entry] | None = None
    several: bool = False
    setting: bool = False
    optional: bool = False
    expected: str = ""

    def read(self, text: str) -> Any:
        """The value that is typed as ``text``; ZooError where it is not accepted.

        Example:
            >>> Argument("n", type=int, least=1).read("64")
            64
            >>> Argument("n", type=int, least=1).read("0")
            Traceback (most recent call last):
            zoo.errors.ZooError: --n 0: 1 or more is needed
        """
        if get_origin(self.type) is Literal:
            return self._one_of(text, get_args(self.type))
        if self.type is bool:
            return self._one_of(text, ("true", "false")) == "true"
        if self.entries is not None:
            return self._registered(text, self.entries)
        if self.type is int:
            return self._number(text)
        if self.type is float:
            return self._float(text)
        if self.type is list:
            return self._gpus(text)
        if self.endings and not text.endswith(self.endings):
            raise ZooError(f"--{self.name} {text}: the name must end in {' or '.join(self.endings)}")
        return self.type(text)

    def _one_of(self, text: str, choices: tuple[str, ...]) -> str:
        if text in choices:
            return text
        near = registry.suggestion(text, choices)
        raise ZooError(f"--{self.name}: invalid choice: {text!r} (choose from {', '.join(choices)}).{near}")

    def _registered(self, name: str, entries: Mapping[str, registry.Entry]) -> str:
        if name in entries or "." in name:
            return name
        if self.name == "model" and name in trained.names():
            raise ZooError(
                f"{name} is trained: python -m zoo.sample --model {name}\n"
                f"To train another like it: {trained.read_card(name).command}"
            )
        kind = {"data": "data set"}.get(self.name, self.name)
        raise ZooError(
            f"no {kind} {name!r} among {', '.join(entries)}.{registry.suggestion(name.lower(), entries)}\n"
            "A class of your own is given with its module: my_file.MyClass."
        )

    def _number(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            least = "" if self.least is None else f", {self.least} or more,"
            raise ZooError(f"--{self.name}: invalid int value: {text!r}; a whole number{least} is needed") from None
        if self.least is not None and number < self.least:
            raise ZooError(f"--{self.name} {number}: {self.least} or more is needed")
        return number

    def _float(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise ZooError(f"--{self.name}: invalid float value: {text!r}; a number is needed") from None

    def _gpus(self, text: str) -> int | list[int]:
        """``2`` as a number; ``2,3`` and ``3,`` as a list; -1 is all that there are."""
        parts = [part.strip() for part in text.split(",")]
        numbers = [int(part) for part in parts if part.isascii() and part.isdecimal()]
        if text.strip() == "-1":
            return -1
        if len(parts) == len(numbers) == 1:
            return numbers[0]
        if len(numbers) == len([part for part in parts if part]) == len(set(numbers)) > 0 and "" not in parts[:-1]:
            return numbers
        raise ZooError(f"--{self.name} {text}: {self.expected}")


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``python -m zoo.<command>``.

    Attributes:
        command: The name of the command.
        usage: What follows it in the first line of ``--help``.
        table: The arguments.
        about: What the command does, lines above the table.
        more: Lines below it.
        words: What words without dashes are, where they are accepted; they are then what is handed on.
        loose: Whether an option that is none of them, and has no group, is handed on as well: it may be one of a group's.
    """

    command: str
    usage: str
    table: tuple[Argument, ...]
    about: str = ""
    more: str = ""
    words: str = ""
    loose: bool = False

    def read(self, argv: list[str]) -> tuple[dict[str, Any], list[str]]:
        """What was typed: the values by name, and what is handed on to the parser, in the order typed.

        Raises:
            ZooError: for an argument that is none, with the nearest name; a value that is missing or not accepted; and an
                argument that is missing.

        Example:
            >>> number = Argument("n", type=int, default=64)
            >>> Arguments("sample", "", (number, Argument("data.OPTION"))).read(["--n", "3", "--data.root", "here"])
            ({'n': 3}, ['--data.root', 'here'])
        """
        values: dict[str, Any] = {}
        rest: list[str] = []
        tokens = list(argv)
        while tokens:
            token = tokens.pop(0)
            name, equals, text = token.partition("=")
            name = _SHORT.get(name, name)
            if not name.startswith("--"):
                if not self.words and (not rest or not rest[-1].startswith("--") or "=" in rest[-1]):
                    raise self._unknown(token)
                rest.append(token)
                continue
            argument = self._find(name)
            if argument.type is None:
                rest.append(token)
                continue
            if argument.type is bool and not equals:
                text = tokens.pop(0) if tokens and tokens[0] in ("true", "false") else "true"
            elif not equals and tokens and not tokens[0].startswith("--"):
                text = tokens.pop(0)
            elif not equals and not argument.optional:
                raise ZooError(f"{name} needs a value")
            value = argument.read(text)
            values[argument.name] = [*values.get(argument.name, []), value] if argument.several else value
        for argument in self.table:
            if argument.required and argument.name not in values:
                raise ZooError(f"--{argument.name} {argument.metavar} is missing.{self._hint}")
        return values, rest

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of each argument that is not typed."""
        return {argument.name: argument.default for argument in self.table if argument.type is not None}

    def help(self) -> str:
        """What ``--help`` says, on one screen."""
        shown = [(f"--{each.name} {each.metavar}".rstrip(), each.help.splitlines()) for each in self.table if each.help]
        width = max(len(left) for left, _ in shown)
        rows = [f"  {left if i == 0 else '':<{width}} {line}" for left, lines in shown for i, line in enumerate(lines)]
        head = f"usage: python -m zoo.{self.command} {self.usage}"
        blocks = [head, self.about, "\n".join(rows), self.more]
        return "\n\n".join(block for block in blocks if block)

    def _find(self, option: str) -> Argument:
        """The argument that ``--name`` is, or is an option of."""
        name = option.removeprefix("--")
        if (ours := self._as_ours(name)) is not None:
            return ours
        for argument in self.table:
            group = argument.name.removesuffix(_GROUP)
            if name == argument.name or (group != argument.name and name.startswith(f"{group}.")):
                return argument
        if self.loose and "." not in name and not difflib.get_close_matches(option, self.names, n=1, cutoff=0.8):
            return Argument(name)
        raise self._unknown(option)

    def _as_ours(self, name: str) -> Argument | None:
        """The argument that other tools, or another of the commands, call so; None for one that is not such a word."""
        plain = name.replace("-", "_")
        meant = {argument.name: argument for argument in self.table if argument.type is not None}
        if name in {argument.name for argument in self.table}:
            return None
        other = {"ckpt_path": "ckpt", "num_samples": "n", "output": "out"}.get(SHORT.get(plain, plain), plain)
        return meant.get(plain) or meant.get(SHORT.get(plain, plain)) or meant.get(other)

    def _unknown(self, typed: str) -> ZooError:
        return ZooError(f"no option {typed}.{registry.suggestion(typed, self.names)}{self._hint}")

    @property
    def names(self) -> list[str]:
        """The arguments that ``--help`` explains, as they are typed; not the groups of options."""
        return [f"--{argument.name}" for argument in self.table if argument.help and not argument.name.endswith(_GROUP)]

    @property
    def _hint(self) -> str:
        return f"\n`python -m zoo.{self.command} --help` explains the options."
