"""Results as rows of CSV files, each written as soon as it is known."""

import csv
import datetime
from collections.abc import Mapping
from pathlib import Path

__all__ = ["TABLES", "Rows"]

_COMMON = ("date", "device", "torch", "seed")
TABLES = {
    "checks": ("part", "model", "configuration", "check", "status", "value", "tolerance", "seconds", "note"),
    "speed": (
        *("part", "model", "configuration", "mode", "status", "batch", "images_per_second", "by_hand_images_per_second"),
        *("milliseconds", "peak_gib", "seconds", "note"),
    ),
    "training": (
        *("job", "configuration", "status", "batches", "of_batches", "train_seconds", "images_per_second"),
        *("elbo", "nll", "nll_standard_error", "nll_samples", "nll_examples", "bits_per_dim", "reconstruction", "kl"),
        *("mig", "sap", "dci_disentanglement", "published", "seconds", "note"),
    ),
    "remaining": ("what", "done", "minutes", "note"),
}


class Rows:
    """The files ``checks.csv``, ``speed.csv``, ``training.csv`` and ``remaining.csv`` of a folder.

    Arguments:
        folder: Where they are; rows that they hold stay.
        device: The device's name.
        torch: torch's version.
        seed: The run's seed.

    Attributes:
        new: What this run added, by table.

    Raises: RuntimeError where a file has other columns.
    """

    def __init__(self, folder: Path, device: str, torch: str, seed: int):
        self.folder = folder
        self.common = {"device": device, "torch": torch, "seed": seed}
        self.new: dict[str, list[dict]] = {table: [] for table in TABLES}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, table: str, **values) -> None:
        """One row, stamped with date, device, torch and seed."""
        row = {"date": datetime.date.today().isoformat(), **self.common, **{key: _text(v) for key, v in values.items()}}
        path = self.folder / f"{table}.csv"
        columns = [*_COMMON, *TABLES[table]]
        if path.exists() and (found := path.open(newline="").readline().strip().split(",")) != columns:
            raise RuntimeError(f"{path} has the columns {', '.join(found)}: give another --out")
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        self.new[table].append(row)
        print(_line(values), flush=True)

    def read(self, table: str) -> list[dict[str, str]]:
        """All rows of a file, of earlier runs too."""
        path = self.folder / f"{table}.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def clear(self, table: str) -> None:
        """Forget a file: what it holds is true of the last run alone."""
        (self.folder / f"{table}.csv").unlink(missing_ok=True)


def _text(value) -> object:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={each}" for key, each in value.items())
    return value


def _line(values: Mapping) -> str:
    shown = (str(_text(value)) for key, value in values.items() if key != "configuration" and value not in ("", None))
    return "  " + " · ".join(shown)[:150]
