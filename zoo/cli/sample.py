"""`python -m zoo.sample`: a checkpoint, samples of its model or what its latents do, and their file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pytorch_lightning import seed_everything
from torch import Tensor

from zoo import evaluation
from zoo.cli.device import require_device
from zoo.cli.options import SAMPLE
from zoo.cli.run_data import run_data
from zoo.errors import ZooError
from zoo.evaluation.inference import first_test_examples, inference
from zoo.evaluation.latents import interpolations, reconstructions, traversals
from zoo.evaluation.samples import MEANS
from zoo.models.base import Autoencodes, SamplesMeans
from zoo.options import require_seed
from zoo.runs.checkpoints import load

__all__ = ["sample"]

_STEPS = 11  # of interpolations and traversals
_CHOSEN_BY = 256  # test examples by whose codes the latents of traversals are chosen


def sample(
    ckpt: str,
    what: Literal["samples", "reconstructions", "interpolations", "traversals"],
    n: int,
    out: Path | None,
    mean: bool | None,
    temperature: float | None,
    data: str | None,
    data_options: list[str],
    seed: int,
    device: str,
    trust: Sequence[str] | None = None,
) -> None:
    """Write samples of a checkpoint's model, or what its latents do, as the options of the command say."""
    require_seed(seed)
    require_device(device)
    out = out or Path(f"{what}.png")
    if what != "samples":
        for name, value in (("mean", mean), ("temperature", temperature)):
            if value is not None:
                raise ZooError(f"--{name} belongs to --what samples: {what} are made of test examples.")
        seed_everything(seed, verbose=False)  # data that are drawn at random take it too
    elif data is not None or data_options:
        raise ZooError("--data belongs to --what reconstructions, interpolations or traversals: samples need none.")
    model = load(ckpt, map_location=device, trust=trust or ())
    said = f"{type(model).__name__} trained on {model.spec.name}: {out}"
    if what == "samples":
        if mean is None:
            mean = out.suffix == ".png" and model.spec.is_image and isinstance(model, SamplesMeans)
        x = evaluation.sample(model, n, seed=seed, mean=mean, temperature=temperature)
        evaluation.save_samples(x, model.spec, out, title=MEANS if mean else "")
        print(f"{n} {f'{MEANS},' if mean else 'samples'} of {said}")
        return
    if not isinstance(model, Autoencodes):
        raise ZooError(f"--what {what}: {type(model).__name__} does not encode, it has no latents of given examples.")
    examples = run_data(ckpt, data, data_options, trust or (), SAMPLE)
    examples.prepare_data()
    examples.setup("test")
    with inference(model, seed):
        x, columns = _of_latents(model, what, first_test_examples(examples, max(2 * n, _CHOSEN_BY)).to(device), n)
    evaluation.save_samples(x.cpu(), model.spec, out, columns=columns)
    print(f"{what} of test examples, by {said}")


def _of_latents(model: Autoencodes, what: str, x: Tensor, n: int) -> tuple[Tensor, int]:
    """Examples, row by row, and how many are in a row; of the test examples (N, ...) that are there."""
    if what == "reconstructions":
        return reconstructions(model, x[:n]).flatten(0, 1), 8
    if what == "interpolations":
        return interpolations(model, x[: 2 * n], _STEPS).flatten(0, 1), _STEPS
    return traversals(model, x[:_CHOSEN_BY], steps=_STEPS, latents=n).flatten(0, 2), _STEPS
