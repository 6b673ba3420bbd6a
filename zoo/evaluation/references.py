"""What samples are compared with: features of examples of a split, kept so that they can be had without the data."""

import hashlib
import json
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.features import Features, RawFeatures
from zoo.files import WriteError, cache_folder, write_atomically
from zoo.spec import Batch, spec_of

__all__ = ["Reference", "examples_of", "reference"]

_VERSION = 1  # raised when anything below changes what is kept
_LARGEST = 2**28  # bytes of a file
_NOT_CONTENT = ("root", "batch_size", "eval_batch_size", "seed", "on_device")  # options that change no example


@dataclass(frozen=True)
class Reference:
    """Features of examples of a split.

    Attributes:
        features: The features (N, dim), on the CPU.
        half: Which examples (N,) are of the first half of the classes, or of the modes that the data know; why it is not
            known where it isn't.
        examples: 16 hexadecimal digits, equal where the examples are.
        kept: Whether they were computed earlier, and kept.
        absent: Why the data themselves can't be had; empty where they can.
    """

    features: Tensor
    half: Tensor | str
    examples: str
    kept: bool = False
    absent: str = ""

    def describe(self) -> dict[str, Any]:
        """What a report states of them."""
        return {"n": len(self.features), "examples": self.examples, "kept": self.kept}


def reference(
    data: LightningDataModule, features: Features, split: str, n: int, *, seed: int = 0, device: torch.device | None = None
) -> Reference:
    """Gives the features of n examples of a split: those that are kept, or computed now and then kept.

    They are kept in ``features`` in the data's folder, else in ZOO_CACHE, under a hash of the data's class and options, the
    split, n, the seed and the features; as a file that is written whole or not at all, of up to 256 MiB. Where the data can
    be read, what is kept counts only if it was made of these very examples. Where they can't, it stands in for them.

    Nothing is kept of data that do not say what they were made with (``init_args``, as every data module of the zoo does),
    and of raw features of data without a folder.

    Arguments:
        data: The data.
        features: The features.
        split: ``train``, ``val`` or ``test``.
        n: Examples, drawn at random; all where the split has no more.
        seed: The seed by which they are drawn.
        device: Where features are computed; the CPU if not given.

    Returns:
        The features.

    Raises:
        ZooError: what the data raise, where they can't be read and nothing is kept.
    """
    path = _place(data, features, split, n, seed)
    found = None if path is None else _read(path, features.dim)
    try:
        batch = examples_of(data, split, n, seed)
    except ZooError as error:
        if found is None:
            raise
        return Reference(found.features, found.half, found.examples, kept=True, absent=str(error))
    digest = _digest(batch)
    if found is not None and found.examples == digest:
        return Reference(found.features, found.half, digest, kept=True)
    made = Reference(features(batch.x.to(device)).cpu(), _half(data, batch), digest)
    if path is not None and 4 * made.features.numel() < _LARGEST:
        try:
            _write(path, made)
        except WriteError as error:
            warnings.warn(f"The features of the {split} split are not kept: {error}", stacklevel=3)
    return made


def examples_of(data: LightningDataModule, split: str, n: int, seed: int) -> Batch:
    """Examples of a split, drawn at random and without replacement; all of them where there are no more than n."""
    generator = torch.Generator().manual_seed(seed)
    if hasattr(data, "splits"):
        data.setup("test")
        source = data.splits[split].to(torch.device("cpu"))
        chosen = torch.randperm(len(source), generator=generator)[:n]
        return source.take(chosen, lambda: torch.Generator().manual_seed(seed))
    loader = {"train": data.train_dataloader, "val": data.val_dataloader, "test": data.test_dataloader}[split]()
    batches = list(loader)
    x = torch.cat([batch.x.cpu() for batch in batches])
    label = None if batches[0].label is None else torch.cat([batch.label.cpu() for batch in batches])
    chosen = torch.randperm(len(x), generator=generator)[:n]
    return Batch(x[chosen], label=None if label is None else label[chosen])


def _half(data: LightningDataModule, batch: Batch) -> Tensor | str:
    """Which examples (N,) are of the first half of the classes or modes; why it is not known where it isn't."""
    if batch.label is not None:
        return batch.label <= batch.label.unique().double().quantile(0.5, interpolation="lower")
    means = getattr(data, "means", None)
    if isinstance(means, Tensor):
        return torch.cdist(batch.x.float(), means.float()).argmin(dim=1) < len(means) / 2
    return f"{type(data).__name__} has no labels and no known modes"


def _place(data: LightningDataModule, features: Features, split: str, n: int, seed: int) -> Path | None:
    """Where they are kept; None where they are not."""
    options, root = getattr(data, "init_args", None), getattr(data, "root", None)
    if options is None or (root is None and isinstance(features, RawFeatures)):
        return None
    made_with = {name: str(value) for name, value in sorted(options.items()) if name not in _NOT_CONTENT}
    cls = type(data)
    of_data = [f"{cls.__module__}.{cls.__qualname__}", made_with, spec_of(data).to_dict()]
    key = [_VERSION, *of_data, split, n, seed, features.name, features.dim, features.hash]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return Path(root or cache_folder()) / "features" / f"{features.name}-{split}-{digest}.npz"


def _digest(batch: Batch) -> str:
    digest = hashlib.sha256()
    for tensor in (batch.x, *(() if batch.label is None else (batch.label,))):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write(path: Path, made: Reference) -> None:
    """As an npz file, in which nothing is pickled."""
    reason, half = (made.half, torch.zeros(0)) if isinstance(made.half, str) else ("", made.half)
    settings = np.array(json.dumps({"examples": made.examples, "no_half": reason}))
    with write_atomically(path, advice="Features are kept in the data's folder, else in ZOO_CACHE.") as file:
        np.savez(file, allow_pickle=False, settings=settings, features=made.features.numpy(), half=half.bool().numpy())


def _read(path: Path, dim: int) -> Reference | None:
    """What is kept; None where it is not there, or damaged, which is said."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST + 2**20:
                raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as file:
            settings = json.loads(str(file["settings"]))
            examples, reason = str(settings["examples"]), str(settings["no_half"])
            features, half = (torch.from_numpy(file[name]) for name in ("features", "half"))
        if features.dtype != torch.float32 or features.ndim != 2 or features.shape[1] != dim or len(features) < 1:
            raise ValueError(f"its features are {features.dtype} {tuple(features.shape)}")
        if not reason and (half.dtype != torch.bool or half.shape != features.shape[:1]):
            raise ValueError("its halves don't fit its features")
        return Reference(features, reason or half, examples)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # damage surfaces as almost any error of zip, npz and JSON
        warnings.warn(f"{path} is damaged and made anew ({' '.join(str(error).split())[:200]}).", stacklevel=4)
        return None
