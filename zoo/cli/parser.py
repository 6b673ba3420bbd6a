"""What the parser knows of classes and options, and errors of it that a person can use."""

import re
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from pytorch_lightning.cli import LightningArgumentParser

from zoo import registry
from zoo.errors import ZooError
from zoo.lightning import option_strings

__all__ = ["Parser", "option_names", "unknown_option", "unwrapped"]

# Of a configuration, places make what they ask for: an option of any type is data, and programs are no classes to name.
set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=["subprocess"])


class _Refusal(Exception):
    """What a parser, or one of those that it makes for each class, refuses."""

    def __init__(self, message: str, cause: BaseException | None):
        super().__init__(message)
        self.message, self.cause = message, cause

    def as_zoo_error(self, arguments: Sequence[str]) -> ZooError:
        """The line that a person needs: the option as it was typed, what was given, and what is accepted."""
        if (inner := _origin(self.cause, (ZooError, _Refusal))) is not None:
            return inner.as_zoo_error(arguments) if isinstance(inner, _Refusal) else inner
        text = self.message
        wrong = re.search(r'Parser key "([^"]+)":\s+Expected an? (.+?)\. Got value: (.*)', text, re.DOTALL)
        wrong = wrong or re.search(r'Parser key "([^"]+)":.*Subtypes: \[(.+?)\]\n.*Given value: (.*)', text, re.DOTALL)
        if wrong is None:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return ZooError("\n".join([*lines[:1], *lines[-1:]] if len(lines) > 2 else lines))
        key, kind, value = wrong[1], wrong[2], wrong[3].strip()
        typed = [argument.partition("=")[0] for argument in arguments]
        option = next((name for name in typed if name.endswith((f".{key}", f"--{key}"))), key)
        choices = re.findall(r"'([^']+)'", kind) if kind.startswith("typing.Literal") else []
        accepted = ", ".join(choices) or re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind).replace("NoneType", "null")
        where = "" if option in typed else _file_with(key.rpartition(".")[2], arguments)
        return ZooError(f"{where}{option} {value}: {accepted} is accepted.{registry.suggestion(value, choices)}")


class Parser(LightningArgumentParser):
    """A parser whose errors are a line or two instead of the usage of 500 options."""

    def parse(self, arguments: list[str]) -> Namespace:
        """The settings that arguments give; ZooError that names the option, what was given, and what is accepted."""
        try:
            return self.parse_args(arguments)
        except _Refusal as refusal:
            raise refusal.as_zoo_error(arguments) from None

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Leave the parser, and those that made it, for :meth:`parse`."""
        raise _Refusal(str(message), ex)


def _file_with(name: str, arguments: Sequence[str]) -> str:
    """``FILE: `` for the last configuration file that has an option of this name, which is the one that counts."""
    files = [Path(value) for key, _, value in (each.partition("=") for each in arguments) if key == "--config"]
    found = (path for path in reversed(files) if path.is_file() and re.search(rf"\b{name}\b *:", path.read_text()))
    return next((f"{path}: " for path in found), "")


def _origin(error: BaseException | None, kinds: type | tuple[type, ...]) -> Any:
    """The error of those kinds that led to ``error``, if one did: the parser wraps what is raised inside it."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise what a constructor raised, which the parser wraps: a ZooError as it is, another one as a line with its place."""
    try:
        yield
    except Exception as error:
        if (ours := _origin(error, ZooError)) is not None:
            raise ours from None
        found: BaseException | None = error
        while found is not None and _is_of_parser(found):
            found = found.__cause__ or found.__context__
        found = found or error
        frames = traceback.extract_tb(found.__traceback__)
        last = next((each for each in reversed(frames) if "site-packages" not in each.filename), frames[-1])
        what = " ".join(str(found).split())[:400]
        kind = ZooError if "site-packages" in last.filename else _OwnError
        raise kind(f"{type(found).__name__}: {what} ({last.filename}, line {last.lineno})") from error


class _OwnError(ZooError):
    """What a class of somebody's own raised: the program ends with status 1, as by any error of a program."""

    status = 1


def _is_of_parser(error: BaseException) -> bool:
    """Whether an error comes out of the parser's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or "jsonargparse" in Path(frames[-1].filename).parts or Path(frames[-1].filename).name == "argparse.py"


def option_names(cls: type) -> list[str]:
    """The names of a class's options, its bases' included."""
    parser = ArgumentParser()
    parser.add_class_arguments(cls, "of", fail_untyped=False)
    return [option[len("--of.") :] for option in option_strings(parser) if option.startswith("--of.")]


def unknown_option(option: str, whose: str, near: Iterable[str]) -> ZooError:
    """The error for an option that is none, with the nearest of those that there are."""
    near = list(near)
    hint = registry.suggestion(option, near) or f" There are {', '.join(near[:8])}{', ...' if len(near) > 8 else '.'}"
    return ZooError(f"no option {option}{whose}.{hint}\n`--help` lists the options, beside `--model NAME` those of a model.")
