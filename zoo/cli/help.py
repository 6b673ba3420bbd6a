"""What ``python -m zoo.fit --model NAME --help`` says: the options of the classes that were named."""

import argparse
import re
from typing import Any

from jsonargparse import ArgumentParser

from zoo import registry
from zoo.cli.command import Command
from zoo.registry import import_class

__all__ = ["help_of_classes"]


def help_of_classes(command: Command) -> str:
    """The options of the model and the data that were typed, and of the components that the model was given by name."""
    parser = ArgumentParser(prog="python -m zoo.fit", add_help=False, usage=argparse.SUPPRESS)
    for group, name, entries in (("model", command.model, registry.MODELS), ("data", command.data, registry.DATA)):
        if name is not None:
            cls = import_class(entries[name].path if name in entries else name)
            components = _components(cls, command.rest) if group == "model" else {}
            parser.add_class_arguments(cls, group, skip={"spec", *components}, fail_untyped=False)
            for options, component in components.items():
                given = {len(component.given)}
                parser.add_class_arguments(component, f"{group}.{options}", skip=given, fail_untyped=False)
    said = re.sub(r":\w+:`~?([^`]*)`", r"\1", parser.format_help().replace("``", ""))  # roles are for built pages
    lines = said.strip().splitlines()
    files = ("Path to a configuration file", "_options CONFIG")
    shown = [line for line in lines if not any(part in line for part in files)]
    return "\n".join([*shown, "", "The arguments common to all models: python -m zoo.fit --help"])


def _components(cls: type, typed: list[str]) -> dict[str, Any]:
    """The classes of the components that options name (``--model.posterior iaf``), by the argument for their options."""
    named: dict[str, str] = {}
    for token, following in zip(typed, [*typed[1:], ""], strict=True):
        option, equals, value = token.partition("=")
        named[option.removeprefix("--model.")] = value if equals else following
    families = getattr(cls, "components", {})
    given = {kind: name for kind, name in named.items() if kind in families and name not in ("", "auto") and name[0] != "-"}
    return {f"{kind}_options": families[kind].find(name) for kind, name in given.items()}
