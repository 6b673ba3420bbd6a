"""Samples from a checkpoint, as a picture or as an array."""

import argparse
from pathlib import Path

import numpy as np
import torch

from zoo.checkpoints import load
from zoo.errors import ZooError
from zoo.pictures import picture

__all__ = ["sample"]

_PER_CALL = 256  # samples made at once, so that memory does not grow with --n


def sample(argv: list[str]) -> None:
    """Parse ``python -m zoo.sample``'s arguments and write the samples."""
    parser = argparse.ArgumentParser(
        "python -m zoo.sample", description="Draw samples from a trained model.", allow_abbrev=False
    )
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a run's checkpoints/last.ckpt")
    parser.add_argument("--n", type=int, default=64, help="how many samples (default 64)")
    forms = ".png: a grid of images or a plot of vectors; .npz: the array x, like the data (default samples.png)"
    parser.add_argument("--out", type=Path, default=Path("samples.png"), metavar="FILE", help=forms)
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default cpu)")
    options = parser.parse_args(argv)
    if options.n < 1:
        raise ZooError(f"--n {options.n}: 1 or more is needed")
    if options.out.suffix not in (".png", ".npz"):
        raise ZooError(f"--out {options.out}: the name must end in .png or .npz")

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
