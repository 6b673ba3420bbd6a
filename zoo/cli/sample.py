"""`python -m zoo.sample`: a checkpoint, samples of its model, and their file."""

from collections.abc import Sequence
from pathlib import Path

import torch

from zoo import evaluation
from zoo.errors import ZooError
from zoo.options import require_seed
from zoo.runs.checkpoints import load

__all__ = ["sample"]


def sample(ckpt: str, n: int, out: Path, seed: int, device: str, trust: Sequence[str] | None = None) -> None:
    """Write samples of a checkpoint's model, as the options of the command say."""
    require_seed(seed)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZooError(f"--device {device}: not a device of this machine (cpu, cuda, mps).") from error
    model = load(ckpt, map_location=device, trust=trust or ())
    evaluation.save_samples(evaluation.sample(model, n, seed=seed), model.spec, out)
    print(f"{n} samples of {type(model).__name__} trained on {model.spec.name}: {out}")
