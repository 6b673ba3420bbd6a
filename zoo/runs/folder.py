"""Run folders: where a run's configuration, metrics, checkpoints and pictures are."""

from pathlib import Path

from zoo.errors import ZooError

__all__ = ["new_run", "run_of"]


def new_run(root: str | Path, model: str, data: str) -> Path:
    """Make and return ``<root>/<model>-<data>/<n>`` with the next free number n; safe when several runs start at once."""
    parent = Path(root) / f"{model}-{data}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
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


def run_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint belongs to: the one with config.yaml, beside the file or one above; else None."""
    path = Path(checkpoint).resolve()
    return next((folder for folder in list(path.parents)[:2] if (folder / "config.yaml").is_file()), None)
