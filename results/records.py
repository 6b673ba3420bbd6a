"""Keeps the records of runs, all that comparing them needs, without their weights.

    python results/records.py studies/dequantization/runs results/dequantization

Of each run under the first folder: its configuration, its ``run.json``, its evaluation with log p of every test example.
``python -m zoo.compare results/dequantization`` reads them as it reads the runs.
"""

import argparse
import shutil
from pathlib import Path

from zoo.runs.stored import find_runs

KEPT = ("config.yaml", "run.json", "evaluation.json", "evaluation.npz")


def keep(runs: Path, records: Path) -> int:
    """Copy the records of all runs under a folder, each to its place under another; how many there are."""
    folders = find_runs(runs)
    for folder in folders:
        kept = records / folder.relative_to(runs)
        kept.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if (folder / name).exists():
                shutil.copyfile(folder / name, kept / name)
    return len(folders)


def main() -> None:
    """Copy what was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="a folder of runs, as zoo.fit or zoo.study leave it")
    parser.add_argument("records", type=Path, help="where their records are kept")
    given = parser.parse_args()
    print(f"{keep(given.runs, given.records)} runs: {given.records}")


if __name__ == "__main__":
    main()
