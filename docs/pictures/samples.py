"""The table of docs/samples.md, what each score says of samples whose fault is known, and docs/pictures/judged-DATA.png.

Run from the root of the repository: ``python docs/pictures/samples.py [--data.root FOLDER]``; of digits, or of MNIST where
a folder that has it is given.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from datamodules import MNIST, Digits
from zoo.evaluation import features_for
from zoo.metrics import (
    authenticity,
    c2st,
    c_t,
    clipped_density_coverage,
    frechet_distance,
    kernel_distance,
    mmd_fuse,
    prdc,
)


def blurred(x: Tensor, levels: int) -> Tensor:
    """Images whose pixels are means of 3x3."""
    return torch.nn.functional.avg_pool2d(x.float(), 3, 1, 1).round().clamp(0, levels - 1).to(torch.uint8)


def rows(data: Digits | MNIST, n: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Training and test examples, and what stands in a model's place, of which all but the first have one fault."""
    data.prepare_data()
    data.setup()
    train, test, fresh = (data.splits[split] for split in ("train", "test", "val"))
    levels, generator = data.spec.levels, torch.Generator().manual_seed(0)
    half = fresh.x[fresh.label < 5]
    return (
        train.x,
        test.x[:n],
        {
            "real": fresh.x[:n],
            "training set": train.x[torch.randperm(len(train), generator=generator)[:n]],
            "half of the classes": half[torch.randint(len(half), (n,), generator=generator)],
            "one image": fresh.x[:1].expand(n, *data.spec.shape),
            "blurred": blurred(fresh.x[:n], levels),
            "noise": torch.randint(levels, (n, *data.spec.shape), generator=generator, dtype=torch.uint8),
        },
    )


def draw(samples: dict[str, Tensor], levels: int, path: Path) -> None:
    """A line of images of each kind."""
    figure = Figure(figsize=(8, 3.6), dpi=90, layout="constrained")
    for axes, (name, x) in zip(figure.subplots(6, 1), samples.items(), strict=True):
        framed = torch.nn.functional.pad(x[:20, 0].float(), (1, 1, 1, 1), value=0.3 * (levels - 1))
        axes.imshow(framed.transpose(0, 1).flatten(1), cmap="gray", vmin=0, vmax=levels - 1, interpolation="nearest")
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L").quantize(32).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.root", dest="root")
    root = parser.parse_args().root
    data, n = (MNIST(root=root), 2000) if root else (Digits(), 250)
    features = features_for(data, "cnn", progress=True)
    train, test, samples = rows(data, n)
    draw(samples, data.spec.levels, Path(__file__).with_name(f"judged-{data.spec.name}.png"))
    train, test = features(train), features(test)
    print(f"{n} samples against {n} test examples of {data.spec.name}, features {features.describe()}")
    columns = "fd kid precision recall density coverage clipped_density clipped_coverage c2st p mmd_fuse_p c_t authenticity"
    print("|", " | ".join(["", *columns.split()]), "|")
    for name, x in samples.items():
        y = features(x)
        accuracy, p, *_ = c2st(test, y)
        found = [frechet_distance(test, y), kernel_distance(test, y), *prdc(test, y), *clipped_density_coverage(test, y)]
        found += [accuracy, p, mmd_fuse(test, y, permutations=1000).p_value, c_t(train, test, y), authenticity(train, y)]
        print("|", " | ".join([name, *(f"{number:.3g}" for number in found)]), "|", flush=True)


if __name__ == "__main__":
    main()
