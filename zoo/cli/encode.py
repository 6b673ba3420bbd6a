"""`python -m zoo.encode`: a checkpoint, the data of its run, and a file of their codes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pytorch_lightning import seed_everything

from zoo import evaluation
from zoo.cli.device import require_device
from zoo.cli.options import ENCODE
from zoo.cli.run_data import run_data
from zoo.files import write_atomically
from zoo.lightning import quiet_lightning
from zoo.options import require_seed
from zoo.runs.checkpoints import load

__all__ = ["encode"]


def encode(
    ckpt: str,
    data: str | None,
    data_options: list[str],
    out: Path,
    seed: int,
    device: str,
    trust: Sequence[str] | None = None,
) -> None:
    """Write the codes of a checkpoint's data, as the options of the command say."""
    require_seed(seed)
    require_device(device)
    quiet_lightning()
    seed_everything(seed, verbose=False)  # data that are drawn at random take it too
    model = load(ckpt, map_location=device, trust=trust or ())
    found = evaluation.encode(model, run_data(ckpt, data, data_options, trust or (), ENCODE), seed=seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as file:
        np.savez_compressed(file, allow_pickle=False, **found)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    print(f"codes of {type(model).__name__} trained on {model.spec.name}, {shapes}: {out}")
