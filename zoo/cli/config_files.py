"""The names in a configuration file of one's own, looked at before the parser does: errors name file and neighbor."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.cli.parser import option_names
from zoo.errors import ZooError
from zoo.files import read_yaml
from zoo.registry import import_class, is_class_path, suggestion

__all__ = ["require_known_names"]

_CLASS = ("class_path", "init_args", "dict_kwargs")
_MEANT = {"seed": "seed_everything"}  # what is typed otherwise


def require_known_names(path: str | Path, options: Iterable[str], classes: Mapping[str, type]) -> None:
    """ZooError for the first name in a file that is no setting, with the file and the nearest name.

    Arguments:
        path: The file.
        options: What the parser takes: ``--trainer.max_steps``.
        classes: The classes of ``model`` and ``data``, where the file does not say others.
    """
    known = {option.removeprefix("--") for option in options}
    first = {name.partition(".")[0] for name in known} - {"config", "help", "help-all", "print_config"}
    for name, section in read_yaml(path).items():
        if name not in first:
            near = f" Did you mean {_MEANT[name]}?" if name in _MEANT else suggestion(name, first)
            raise ZooError(f"{path}: no setting {name}.{near}")
        if name in ("model", "data") and isinstance(section, dict):
            _require_options(path, name, section, classes.get(name))
        elif name == "trainer" and isinstance(section, dict):
            names = {option.partition(".")[2] for option in known if option.startswith("trainer.")}
            _require(path, name, section, names)
            parts = section.get("callbacks"), section.get("logger")
            for part in [each for found in parts for each in (found if isinstance(found, list) else [found])]:
                if isinstance(part, dict):
                    _require_options(path, f"{name}.{'callbacks' if part in _listed(parts[0]) else 'logger'}", part, None)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _require_options(path: str | Path, name: str, section: Mapping[str, Any], cls: type | None) -> None:
    """The same of a section that is a class with its options."""
    named = section.get("class_path")
    if isinstance(named, str) and is_class_path(named):
        cls = import_class(named)
    if cls is None:
        return
    options = set(option_names(cls))
    _require(path, name, {key: value for key, value in section.items() if key not in _CLASS}, options, cls)
    if isinstance(given := section.get("init_args"), dict):
        _require(path, f"{name}.init_args", given, options, cls)


def _require(
    path: str | Path, name: str, section: Mapping[str, Any], options: Iterable[str], cls: type | None = None
) -> None:
    """The same of options by their names, and of those that are groups of others."""
    options = set(options)
    of = f" of {cls.__name__}" if cls is not None else ""
    for key, value in section.items():
        key = str(key).removesuffix("+")
        inner = {option[len(key) + 1 :] for option in options if option.startswith(f"{key}.")}
        if key not in options and not inner:
            near = suggestion(key, options) or f" There are {', '.join(sorted(options)[:8])}, ..."
            raise ZooError(f"{path}: no option {name}.{key}{of}.{near}")
        if inner and isinstance(value, dict) and "class_path" not in value:
            _require(path, f"{name}.{key}", value, inner, cls)
