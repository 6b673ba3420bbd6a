"""Trained models that come along: for each a checkpoint that holds the model alone, and a card that says what it is.

``zoo.load("flowpp-digits")`` and ``python -m zoo.sample --model flowpp-digits`` find them here. Reading the cards imports
nothing heavy.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.files import read_json
from zoo.registry import MODELS, suggestion

__all__ = ["FOLDER", "Card", "cards", "find", "names", "read_card"]

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Card:
    """What is known of a trained model: how it was made, what was measured of it, and which file it is.

    Attributes:
        name: ``<model>-<data>``, as run folders are called.
        model: The registered name.
        data: The class of its data and their options, as ``config.yaml`` has them.
        command: What was typed to train it.
        differs: What differs from the preset, and why; empty where nothing does.
        seed: The seed of the training.
        batches: The batches of the training; the best weights may be those of an earlier one.
        seconds: How long it took.
        machine: Where it was trained.
        versions: What it was trained with.
        commit: The zoo's commit.
        weights: Which of a run's: ``best`` or ``last``, with ``averaged`` where these are an average.
        parameters: Their number.
        evaluated_by: What was typed for the metrics.
        metrics: The numbers that :func:`zoo.evaluation.evaluate` found on the test split, by their names.
        missing: Metrics that it does not have, with the reason.
        license: Of the file.
        bytes: The size of the file.
        sha256: Its hash.
    """

    name: str
    model: str
    data: dict[str, Any]
    command: str
    differs: str
    seed: int
    batches: int
    seconds: float
    machine: str
    versions: dict[str, str]
    commit: str | None
    weights: str
    parameters: int
    evaluated_by: str
    metrics: dict[str, float]
    missing: dict[str, str]
    license: str
    bytes: int
    sha256: str

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return FOLDER / f"{self.name}.ckpt"

    @property
    def summary(self) -> str:
        """What was measured, in a few words: log p(x) where there is one, else the Fréchet distance of samples."""
        for leaf, what in (("nll", "NLL"), ("elbo", "ELBO")):
            if f"test/{leaf}" in self.metrics:
                return f"{what} {self.metrics[f'test/{leaf}']:.1f} nats"
        found = [name for name in self.metrics if name.startswith("test/fd_") and "infinity" not in name]
        return f"FD {self.metrics[found[0]]:.2g} ({found[0].removeprefix('test/fd_')})" if found else "no likelihood"

    def checked(self) -> Path:
        """The checkpoint, after a look at its hash.

        Raises:
            ZooError: where the file is not there, or not the one that was measured.
        """
        advice = f"Install the package again, or train the model: {self.command}"
        if not self.path.is_file():
            raise ZooError(f"trained model {self.name}: {self.path} is missing.\n{advice}")
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            told = f"its SHA-256 is {found[:12]}…, and not {self.sha256[:12]}… as on its card"
            raise ZooError(f"trained model {self.name}: {self.path} is damaged: {told}.\n{advice}")
        return self.path


def names() -> list[str]:
    """The names of the trained models.

    Example:
        >>> "gan-digits" in names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> Card:
    """The card of a trained model.

    Raises:
        ZooError: where there is none of that name, or its card is damaged.

    Example:
        >>> read_card("gan-digits").model
        'gan'
    """
    if name not in (known := names()):
        if name in MODELS:
            own = [each for each in known if each.partition("-")[0] == name]
            raise ZooError(f"{name} is a kind of model, not a trained one: {', '.join(own) or 'train it'}.")
        raise ZooError(f"no trained model {name!r} among {', '.join(known)}.{suggestion(name, known)}")
    stored = read_json(FOLDER / f"{name}.json")
    _require_whole(name, stored)
    return Card(**stored)


def _require_whole(name: str, stored: Mapping[str, Any]) -> None:
    expected = {field.name for field in fields(Card)}
    if stored.keys() != expected or stored["name"] != name:
        wrong = ", ".join(sorted(stored.keys() ^ expected)) or "name"
        raise ZooError(f"the card {FOLDER / name}.json is damaged: {wrong}. Install the package again.")


def cards() -> list[Card]:
    """Those of all trained models."""
    return [read_card(name) for name in names()]


def find(place: str | Path) -> Card | None:
    """The card of a trained model that is named, or whose file is; None for any other place.

    A file of one's own with such a name comes first.

    Example:
        >>> find("gan-digits").name, find("runs/gan-digits/1/checkpoints/last.ckpt")
        ('gan-digits', None)
    """
    path, known = Path(place).resolve(), names()
    if path.parent == FOLDER.resolve() and path.suffix == ".ckpt" and path.stem in known:
        return read_card(path.stem)
    return read_card(str(place)) if str(place) in known and not path.is_file() else None
