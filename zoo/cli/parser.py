"""What the parser knows of classes and options, and errors of it that a person can use."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import ArgumentParser
from pytorch_lightning.cli import LightningArgumentParser

from zoo import registry
from zoo.errors import ZooError

__all__ = ["Parser", "option_names", "unknown_option", "unwrapped"]


class Parser(LightningArgumentParser):
    """Shows the line of an error that a person needs, not the usage of 500 options."""

    typed: Sequence[str] = ()  # the options of the command line, for all parsers: one is made for each class

    def error(self, message: str, ex: Exception | None = None):
        """Raise ZooError that names the option as it was typed, what was given, and what is accepted."""
        if (inner := _zoo_error(ex)) is not None:
            raise inner
        text = str(message)
        wrong = re.search(r'Parser key "([^"]+)":\s+Expected an? (.+?)\. Got value: (.*)', text, re.DOTALL)
        wrong = wrong or re.search(r'Parser key "([^"]+)":.*Subtypes: \[(.+?)\]\n.*Given value: (.*)', text, re.DOTALL)
        if wrong is None:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            raise ZooError("\n".join([*lines[:1], *lines[-1:]] if len(lines) > 2 else lines))
        key, kind, value = wrong[1], wrong[2], wrong[3].strip()
        option = next((typed for typed in self.typed if typed.endswith((f".{key}", f"--{key}"))), key)
        choices = re.findall(r"'([^']+)'", kind) if kind.startswith("typing.Literal") else []
        accepted = ", ".join(choices) or re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind).replace("NoneType", "null")
        raise ZooError(f"{option} {value}: {accepted} is accepted.{registry.suggestion(value, choices)}")


def _zoo_error(error: BaseException | None) -> ZooError | None:
    """The ZooError that led to ``error``, if one did: the parser wraps what is raised inside it."""
    while error is not None and not isinstance(error, ZooError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the ZooError of a constructor as it is; other errors come with the parser's account of them."""
    try:
        yield
    except ValueError as error:
        if (ours := _zoo_error(error)) is not None:
            raise ours from None
        raise


def option_names(cls: type) -> list[str]:
    """The names of a class's options, its bases' included."""
    parser = ArgumentParser()
    parser.add_class_arguments(cls, "of", fail_untyped=False)
    return [option[len("--of.") :] for option in parser._option_string_actions if option.startswith("--of.")]


def unknown_option(option: str, whose: str, near: Iterable[str]) -> ZooError:
    """The error for an option that is none, with the nearest of those that there are."""
    near = list(near)
    hint = registry.suggestion(option, near) or f" There are {', '.join(near[:8])}{', ...' if len(near) > 8 else '.'}"
    return ZooError(f"no option {option}{whose}.{hint}\n`--model NAME --help` lists the options.")
