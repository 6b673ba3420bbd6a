"""The codes of whole data sets, split by split, with what is known of the examples."""

from collections.abc import Iterator

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.inference import inference
from zoo.models.base import Autoencodes, GenerativeModule
from zoo.progress import progress_bar
from zoo.spec import Batch

__all__ = ["encode"]

_SPLITS = ("train", "val", "test")


def encode(
    model: GenerativeModule, data: LightningDataModule, *, seed: int = 0, batch_size: int = 256, progress: bool = True
) -> dict[str, np.ndarray]:
    """Computes the codes of every example of the training, validation and test splits.

    Arguments:
        model: A model that encodes, on the device where it is to be done.
        data: Data of the model's spec. The zoo's own give their examples in the order of the data set; of others they are
            in the order of the loaders, shuffled for training.
        seed: The seed of what is drawn: noise of the data, binarization, and codes where they are drawn.
        batch_size: How many examples are encoded at once.
        progress: Whether to show a progress bar.

    Returns:
        For each split ``<split>_z``, (N, d); and, where the data have them, ``<split>_factors``, (N, K), and
        ``<split>_label``, (N,).

    Raises:
        ZooError: if the model does not encode, or the data are others than it was made for.

    Example:
        >>> from datamodules import Digits
        >>> from zoo.models import VAE
        >>> data = Digits()
        >>> found = encode(VAE(data.spec, network="mlp", hidden=8, latent_dim=2), data, progress=False)
        >>> {name: array.shape for name, array in found.items() if name.startswith("test")}
        {'test_z': (250, 2), 'test_label': (250,)}
    """
    if not isinstance(model, Autoencodes):
        raise ZooError(f"{type(model).__name__} does not encode: it has no latents of given examples.")
    if (spec := getattr(data, "spec", model.spec)).shape != model.spec.shape or spec.levels != model.spec.levels:
        raise ZooError(f"the model takes {model.spec}, and the data are {spec}: name those that it was trained on.")
    found: dict[str, np.ndarray] = {}
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    with inference(model, seed):
        for split in _SPLITS:
            parts: dict[str, list[Tensor]] = {}
            batches = _batches(data, split, seed, batch_size)
            for batch in progress_bar(batches, f"encoding {split}", hidden=not progress, leave=False):
                z = model.encode(batch.x.to(model.device))
                rows: dict[str, Tensor | None] = {"z": z, "factors": batch.factors, "label": batch.label}
                for name, rows_of_batch in rows.items():
                    if rows_of_batch is not None:
                        parts.setdefault(f"{split}_{name}", []).append(rows_of_batch.cpu())
            found |= {name: torch.cat(some).numpy() for name, some in parts.items()}
    return found


def _batches(data: LightningDataModule, split: str, seed: int, batch_size: int) -> Iterator[Batch]:
    """Each example of a split once."""
    if hasattr(data, "splits"):
        source, generator = data.splits[split], torch.Generator(data.splits[split].device).manual_seed(seed)
        for index in torch.arange(len(source), device=source.device).split(batch_size):
            yield source.take(index, lambda: generator)
    else:
        yield from {"train": data.train_dataloader, "val": data.val_dataloader, "test": data.test_dataloader}[split]()
