"""Draws what the first run of each setting of a study makes of test examples: docs/pictures/study-small.png.

    python -m zoo.study configs/studies/small.yaml
    python docs/pictures/study_reconstructions.py studies/small docs/pictures/study-small.png

The first row has the examples, each other row their reconstructions, in the order of the settings' names, which are printed.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

import zoo
from zoo.cli.options import EVALUATE
from zoo.cli.run_data import run_data
from zoo.evaluation import save_samples
from zoo.evaluation.inference import first_test_examples, inference
from zoo.evaluation.latents import reconstructions
from zoo.experiments.comparison import find

COLUMNS = 8


def first_checkpoints(study: Path) -> dict[str, Path]:
    """The last checkpoint of the first run of each setting."""
    found: dict[str, Path] = {}
    for run in find([study / "runs"]):
        if run.folder is not None and (path := run.folder / "checkpoints" / "last.ckpt").exists():
            found.setdefault(run.folder.name.rpartition("-s")[0], path)
    return found


def main() -> None:
    """Draw the picture of a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the folder of a study")
    parser.add_argument("picture", type=Path, help="a PNG file")
    given = parser.parse_args()
    checkpoints = first_checkpoints(given.study)
    data = run_data(str(next(iter(checkpoints.values()))), None, [], (), EVALUATE)
    x = first_test_examples(data, COLUMNS)
    rows = [x.float()]
    for name, path in checkpoints.items():
        model = zoo.load(path)
        with inference(model, 0):
            rows.append(reconstructions(model, x)[:, 1].float())
        print(name)
    save_samples(torch.cat(rows), data.spec, given.picture, columns=COLUMNS)
    Image.open(given.picture).quantize(64).save(given.picture, optimize=True)  # colors: a page loads at once


if __name__ == "__main__":
    main()
