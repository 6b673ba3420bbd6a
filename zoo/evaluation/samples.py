"""Samples from a checkpoint, as a picture or as an array."""

import argparse

import numpy as np
import torch

from zoo.errors import ZooError
from zoo.plots import picture
from zoo.runs.checkpoints import load

__all__ = ["sample"]

_PER_CALL = 256  # samples made at once, so that memory does not grow with --n


def sample(options: argparse.Namespace) -> None:
    """Write the samples that ``python -m zoo.sample`` was asked for (:func:`zoo.cli.options.sample_options`)."""
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise ZooError(f"--device {options.device}: not a device of this machine (cpu, cuda, mps).") from error

    model = load(options.ckpt, map_location=options.device)
    torch.manual_seed(options.seed)
    with torch.inference_mode():
        x = torch.cat([model.sample(min(_PER_CALL, options.n - i)).cpu() for i in range(0, options.n, _PER_CALL)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == ".png":
        picture(x, model.spec).save(options.out)
    else:
        np.savez_compressed(options.out, x=x.numpy())
    print(f"{options.n} samples of {type(model).__name__} trained on {model.spec.name}: {options.out}")
