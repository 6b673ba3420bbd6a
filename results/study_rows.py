"""Keeps what a study of disentanglement has measured: a row for each run, UDR of each setting, reconstructions.

    python -m zoo.study configs/studies/small.yaml
    python results/study_rows.py studies/small results/studies/small.csv --picture docs/pictures/study-small.png

The rows are those of ``zoo.study``'s analysis. UDR is of the checkpoints of a setting's seeds, of 1,000 test examples. The
picture has a row of real examples, and one of their reconstructions by the first run of each setting.
"""

import argparse
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch

import zoo
from zoo.cli.options import EVALUATE
from zoo.cli.run_data import run_data
from zoo.evaluation import evaluate_udr, save_samples
from zoo.evaluation.inference import first_test_examples, inference
from zoo.evaluation.latents import reconstructions
from zoo.experiments.analysis import analyze
from zoo.experiments.analysis.runs import ScoredRun, write_csv
from zoo.experiments.comparison import find
from zoo.progress import progress_bar

COLUMNS = 16


def checkpoints(study: Path) -> dict[str, dict[int, Path]]:
    """The last checkpoints of the runs of each setting, by their seeds."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for run in find([study / "runs"]):
        if run.folder is not None and run.state == "finished" and run.seed is not None:
            path = run.folder / "checkpoints" / "last.ckpt"
            if path.exists():
                found[run.folder.name.rpartition("-s")[0]][run.seed] = path
    return found


def with_udr(rows: list[ScoredRun], settings: dict[str, dict[int, Path]], data) -> list[ScoredRun]:
    """The rows, each with the UDR of its model among those of its setting, where there are several."""
    scores: dict[str, float] = {}
    for name, paths in progress_bar(settings.items(), "UDR", unit="settings"):
        if len(paths) > 1:
            found = evaluate_udr((zoo.load(path) for path in paths.values()), data).scores
            scores |= {f"{name}-s{seed}": float(score) for seed, score in zip(paths, found, strict=True)}
    kept = []
    for row in rows:
        (typed,) = re.findall(r"--name (\S+)", row.facts["command"])  # of a setting whose seeds were one model, its name
        name = typed if typed in scores else f"{typed}-s{row.seed}"
        kept.append(replace(row, numbers={**row.numbers, "udr": scores[name]}) if name in scores else row)
    return kept


def draw(settings: dict[str, dict[int, Path]], data, path: Path) -> None:
    """Real examples, and below them their reconstructions by the first run of each setting."""
    x = first_test_examples(data, COLUMNS)
    rows = [x]
    for paths in settings.values():
        model = zoo.load(paths[min(paths)])
        with inference(model, 0):
            rows.append(reconstructions(model, x)[:, 1])
    spec = model.spec
    save_samples(torch.cat([row.float() for row in rows]), spec, path, columns=COLUMNS)


def main() -> None:
    """Write what was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the folder of a study")
    parser.add_argument("rows", type=Path, help="the CSV file")
    parser.add_argument("--picture", type=Path, help="a PNG file of reconstructions")
    given = parser.parse_args()
    settings = checkpoints(given.study)
    data = run_data(str(next(iter(next(iter(settings.values())).values()))), None, [], (), EVALUATE)
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    write_csv(with_udr(analyze([given.study / "runs"]).rows, settings, data), given.rows)
    if given.picture is not None:
        draw(settings, data, given.picture)


if __name__ == "__main__":
    main()
