"""The table of docs/likelihood_and_samples.md, and docs/pictures/likelihood-and-samples-DATA.png beside it.

Run from the root of the repository: ``python docs/pictures/likelihood_and_samples.py [--data.root FOLDER]``; of digits, or
of dynamically binarized MNIST where a folder that has it is given (half a minute and five minutes of one core). A MADE is
trained with seed 0; the memorizer keeps the training split; the noise mixture has the MADE as its base. Likelihoods are of
the first 2,000 test examples, scores of samples medians of three draws of 1,000 samples, or as many as the test split has.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import Trainer, seed_everything

from datamodules import MNIST, Digits
from zoo.evaluation import evaluate_likelihood, features_for, sample
from zoo.evaluation.references import examples_of, reference
from zoo.evaluation.sample_report import score_model, score_samples
from zoo.models import MADE, Memorizer, NoiseMixture
from zoo.models.base import GenerativeModule

SCORES = ("c2st", "mmd_fuse", "fd", "clipped", "c_t", "authenticity")
LEAVES = ("fd", "clipped_density", "clipped_coverage", "c2st_p", "mmd_fuse_p", "c_t", "authenticity")


def trained(data: Digits | MNIST, epochs: int, **options: float) -> MADE:
    """A MADE of the data after so many epochs."""
    seed_everything(0, verbose=False)
    model = MADE(data.spec, **options)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(max_epochs=epochs, accelerator="cpu", limit_val_batches=0, **quiet).fit(model, data)
    return model.eval()


def line(name: str, nll: tuple[float, float] | None, scores: dict[str, float]) -> str:
    """A row of the table."""
    told = f"{nll[0]:,.1f} ± {nll[1]:.1f}" if nll else ""
    return " | ".join([f"| {name}", told, *(f"{scores[leaf]:.3g}" for leaf in LEAVES)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.root", dest="root")
    root = parser.parse_args().root
    begun = time.process_time()
    data: Digits | MNIST = MNIST(root=root, binarize="dynamic", batch_size=100, seed=0) if root else Digits(seed=0)
    data.prepare_data()
    data.setup()
    made = trained(data, 5, lr_decay=0.999) if root else trained(data, 100, lr_decay=0.999)
    memorizer = Memorizer(data.spec, scale=0.1)
    memorizer.initialize(torch.cat([batch.x for batch in data.train_dataloader()]))
    mixture = NoiseMixture.of(made)
    models: dict[str, GenerativeModule] = {"MADE": made, "memorizer": memorizer.eval(), "noise mixture": mixture}
    print(f"trained in {time.process_time() - begun:.0f} s of CPU time", flush=True)

    features, n = features_for(data, "cnn"), 1000
    test, val = (reference(data, features, split, n).features for split in ("test", "val"))
    how = {"test": test, "train": reference(data, features, "train", 50_000).features}
    print(f"{len(test)} test examples and as many samples of {data.spec.name}, features {features.describe()}")
    print("| in the model's place | NLL, nats |", " | ".join(LEAVES), "|")
    print("|---" * (len(LEAVES) + 2) + "|")
    print(line("validation examples", None, score_samples(SCORES, val, **how)[0]), flush=True)
    for name, model in models.items():
        found = evaluate_likelihood(model, data, examples=2000, progress=False)
        draws = [score_model(SCORES, model, features, len(test), **how, sample_seed=seed)[0] for seed in range(3)]
        scores = {leaf: statistics.median(draw[leaf] for draw in draws) for leaf in LEAVES}
        print(line(name, (found["test/nll"], found["test/nll_standard_error"]), scores), flush=True)
    x = examples_of(data, "test", 2000, 0).x
    lost = torch.cat([made.log_likelihood(part) - mixture.log_likelihood(part) for part in x.split(500)])
    print(f"lost by the mixture: at most {lost.max():.4f} nats; log 100 is {math.log(100):.4f}")
    print(f"noise: {data.spec.dims * math.log(data.spec.levels):.1f} nats; {time.process_time() - begun:.0f} s of CPU time")

    shown = [x[:30], *(sample(model, 30) for model in models.values())]
    figure = Figure(figsize=(8, 3.1), dpi=90, layout="constrained")
    for axes, name, images in zip(figure.subplots(2, 2).flat, ["test examples", *models], shown, strict=True):
        framed = torch.nn.functional.pad(images[:, 0].float(), (1, 1, 1, 1), value=0.3 * (data.spec.levels - 1))
        grid = framed.view(3, 10, *framed.shape[1:]).transpose(1, 2).flatten(2).flatten(0, 1)
        axes.imshow(grid, cmap="gray", vmin=0, vmax=data.spec.levels - 1, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    path = Path(__file__).with_name(f"likelihood-and-samples-{'mnist' if root else 'digits'}.png")
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L").quantize(32).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
