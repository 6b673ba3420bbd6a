"""The tables of docs/gpu.md from the files in results/gpu: ``python -m benchmarks.gpu.page`` prints them."""

import csv
from collections.abc import Iterable
from pathlib import Path

__all__ = ["NONE_YET", "tables"]

NONE_YET = "There are no results yet: nothing of this was run on a GPU."
# file -> what is shown of it; the files have more
_SHOWN = {
    "checks": ("model", "check", "status", "value", "tolerance", "note"),
    "speed": (
        *("part", "model", "mode", "status", "batch", "images_per_second", "by_hand_images_per_second"),
        *("milliseconds", "peak_gib", "note"),
    ),
    "training": (
        *("job", "status", "batches", "train_seconds", "elbo", "nll", "nll_standard_error", "nll_examples"),
        *("bits_per_dim", "reconstruction", "kl", "mig", "sap", "dci_disentanglement"),
    ),
}


def tables(folder: Path) -> str:
    """All tables in one text, each under the device, torch and date of its rows; a sentence where there is none."""
    found = [_table(path) for name in _SHOWN if (path := folder / f"{name}.csv").exists()]
    return "\n\n".join(found) if found else NONE_YET


def _table(path: Path) -> str:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [column for column in _SHOWN[path.stem] if any(row[column] for row in rows)]
    where = ", ".join(sorted({"{device} with torch {torch} on {date}, seed {seed}".format(**row) for row in rows}))
    lines = [f"`results/gpu/{path.name}`: {where}", "", _line(columns), _line(["---"] * len(columns))]
    return "\n".join(lines + [_line(row[column] for column in columns) for row in rows])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(tables(Path(__file__).resolve().parents[2] / "results" / "gpu"))
