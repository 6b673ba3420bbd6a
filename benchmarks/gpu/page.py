"""The tables of docs/gpu.md from the files in results/gpu: ``python -m benchmarks.gpu.page`` prints them."""

import csv
from collections.abc import Iterable
from pathlib import Path

__all__ = ["NONE_YET", "tables"]

NONE_YET = "There are no results yet: nothing of this was run on a GPU."
# file -> what is shown of it; the files have more
_SHOWN = {
    "checks": ("check", "models", "ok", "largest", "of", "tolerance", "failed"),
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
    runs = {f"{row['device']} with torch {row['torch']} on {row['date']}, seed {row['seed']}" for row in rows}
    if path.stem == "checks":
        rows = _by_check(rows)
    columns = [column for column in _SHOWN[path.stem] if any(row[column] for row in rows)]
    lines = [f"`results/gpu/{path.name}`: {', '.join(sorted(runs))}", "", _line(columns), _line(["---"] * len(columns))]
    return "\n".join(lines + [_line(row[column] for column in columns) for row in rows])


def _by_check(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """A row for each check: how many models it was made of, how many passed, the largest value, and what failed."""
    table = []
    for check in dict.fromkeys(row["check"] for row in rows if row["value"]):
        ours = [row for row in rows if row["check"] == check or (not row["value"] and check.startswith(row["check"]))]
        worst = max(ours, key=lambda row: float(row["value"] or 0))
        failed = ", ".join(f"{row['model']}: {row['status']}" for row in ours if row["status"] not in ("ok", "differs"))
        counts = {"models": str(len(ours)), "ok": str(sum(row["status"] == "ok" for row in ours))}
        values = {"largest": worst["value"], "of": worst["model"], "tolerance": worst["tolerance"]}
        table.append({"check": check, **counts, **values, "failed": failed})
    return table


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(tables(Path(__file__).resolve().parents[2] / "results" / "gpu"))
