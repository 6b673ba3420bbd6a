"""Run folders: where a run's configuration, metrics, checkpoints and pictures are."""

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import registry
from zoo.errors import ZooError

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule

__all__ = ["data_name", "discard_run", "missing_folders", "new_config", "new_run", "newest_config", "require_name", "run_of"]


def new_run(root: str | Path, model: str, data: str, name: str | None = None) -> Path:
    """Make and return ``<root>/<model>-<data>/<n>`` with the next free number n; safe when several runs start at once.

    Arguments:
        root: Where run folders are made.
        model, data: What they are called.
        name: Takes the place of the number.

    Raises:
        ZooError: for a name that is not one, or is there already, and where no folder can be made.
    """
    parent = Path(root) / f"{model}-{data}"
    require_name(name)
    try:
        if name is not None and (parent / name).exists():
            raise ZooError(f"{parent / name} is there already: give another name, or go on with that run by --resume.")
        parent.mkdir(parents=True, exist_ok=True)
        if name is not None:
            (parent / name).mkdir()
            return parent / name
        number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
        while True:
            try:
                (parent / str(number)).mkdir()
                return parent / str(number)
            except FileExistsError:
                number += 1
    except OSError as error:
        raise ZooError(
            f"can't make a run folder under {parent}: {error.strerror}.\n"
            "Name a folder that can be written with --trainer.default_root_dir."
        ) from error


def missing_folders(root: str | Path, model: str, data: str) -> list[Path]:
    """The folders that :func:`new_run` will make above a run's, innermost first."""
    parent = Path(root) / f"{model}-{data}"
    return [folder for folder in (parent, *parent.parents) if not folder.exists()]


def discard_run(folder: Path, made: Iterable[Path]) -> None:
    """Remove a run folder in which nothing was trained, and those above it that were made for it and hold nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are there
        for each in made:
            each.rmdir()


def require_name(name: str | None) -> None:
    """ZooError unless a run can be called so: None stands for a number.

    Example:
        >>> require_name("wide/2")
        Traceback (most recent call last):
        zoo.errors.ZooError: name wide/2: letters, digits, . _ + = - are accepted, and more than digits.
    """
    if name is not None and (not re.fullmatch(r"[\w+=][\w.+=-]{0,99}", name) or name.isdecimal()):
        raise ZooError(f"name {name}: letters, digits, . _ + = - are accepted, and more than digits.")


def data_name(data: "LightningDataModule") -> str:
    """What a run folder calls its data: the name in their spec; of a class that is not registered, its own in lower case.

    Characters that shells and file systems take for something else are underscores.

    Example:
        >>> from datamodules import DSprites, Toy
        >>> data_name(Toy("grid")), data_name(DSprites(resolution=32))
        ('toy_grid', 'dsprites_32px')
    """
    from zoo.spec import spec_of  # with torch, which whoever reads run folders does not need

    name = registry.name_of(type(data), registry.DATA)
    if name in registry.DATA and type(data) is registry.find_class(registry.DATA[name].path):
        name = re.sub(r"\W+", "_", spec_of(data).name).strip("_")[:100]
    return name


def run_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint belongs to: the one with config.yaml, beside the file or one above; else None."""
    path = Path(checkpoint).resolve()
    return next((folder for folder in list(path.parents)[:2] if (folder / "config.yaml").is_file()), None)


def newest_config(run: str | Path) -> Path:
    """The settings that a run went on with last: ``config.yaml`` of its start, or ``config-<n>.yaml`` of its n-th part."""
    return max(_configs(Path(run)), key=_part, default=Path(run) / "config.yaml")


def new_config(run: str | Path) -> Path:
    """Where the settings of a run's next part are to be: that of its start stays, and every part has a file of its own."""
    parts = [_part(path) for path in _configs(Path(run))]
    return Path(run) / (f"config-{max(parts) + 1}.yaml" if parts else "config.yaml")


def _configs(run: Path) -> list[Path]:
    return [path for path in run.glob("config*.yaml") if path.stem == "config" or path.stem[7:].isdecimal()]


def _part(path: Path) -> int:
    return 1 if path.stem == "config" else int(path.stem[7:])
