"""A small classifier of the data, trained on their training split when it is first needed, and kept beside them."""

import itertools
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from zoo.distributed import from_first
from zoo.errors import ZooError
from zoo.files import WriteError, cache_folder, write_atomically
from zoo.metrics.disentanglement.factor_sampling import seeded
from zoo.nets.classifier import Classifier
from zoo.progress import progress_bar
from zoo.spec import Batch, DataSpec, spec_of

__all__ = ["TrainedClassifier", "is_kept", "trained_classifier"]

_RECIPE = 1  # raised when anything below changes what is trained
_STEPS, _BATCH, _RATE = 800, 128, 3e-3
_LARGEST = 2**28  # bytes of a file


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier of the data.

    Attributes:
        network: The network.
        spec: What it classifies.
        classes: The number of classes.
        accuracy: The share of test examples that it classifies right.
        seed: The seed of its training.
    """

    network: Classifier
    spec: DataSpec
    classes: int
    accuracy: float
    seed: int


def trained_classifier(
    data: LightningDataModule, *, seed: int = 0, folder: str | Path | None = None, progress: bool = False
) -> TrainedClassifier:
    """Gives the classifier of labeled images: the one that is kept, or one trained now and then kept.

    It is trained on the training split, 800 batches of 128 with Adam, in well under a minute on a CPU for digits and MNIST.
    What is kept is named after the data, the seed and the recipe; with it at hand the training split is not needed.

    Arguments:
        data: Labeled images.
        seed: The seed of the weights and of the batches.
        folder: Where it is kept; by default ``features`` in the data's own folder, else in ZOO_CACHE.
        progress: Whether to show a progress bar.

    Returns:
        The classifier, on the CPU.

    Raises:
        ZooError: for data that are no images, have no labels, or have one class only.
    """
    spec = spec_of(data)
    _ = spec.image_shape  # raises for what is no image
    path = _place(data, spec, seed, folder)

    @torch.inference_mode(False)  # as it is on in validations
    def make() -> TrainedClassifier:
        found = _read(path, spec, seed)
        if found is None:
            found = _train(data, spec, seed, progress)
            try:
                _write(path, found)
            except WriteError as error:
                warnings.warn(f"The classifier is not kept: {error}", stacklevel=4)
        return found

    return from_first(make)


def is_kept(data: LightningDataModule, *, seed: int = 0) -> bool:
    """Whether there is a file with the classifier of the data."""
    return _place(data, spec_of(data), seed, None).is_file()


def _place(data: LightningDataModule, spec: DataSpec, seed: int, folder: str | Path | None) -> Path:
    home = Path(getattr(data, "root", "") or cache_folder()) if folder is None else Path(folder)
    return home / ("" if folder else "features") / f"{_file_name(spec)}-seed{seed}-{_RECIPE}.npz"


def _train(data: LightningDataModule, spec: DataSpec, seed: int, progress: bool) -> TrainedClassifier:
    data = _own_copy(data, seed)
    data.prepare_data()
    data.setup("fit")
    classes = _number_of_classes(data, spec)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with seeded(seed), torch.enable_grad():
        network = Classifier(spec.image_shape, classes).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS)
        batches = itertools.islice(_forever(data), _STEPS)
        for batch in progress_bar(batches, f"classifier of {spec.name}", _STEPS, hidden=not progress):
            x, label = spec.to_unit(batch.x.to(device)).float(), _labels(batch, spec).to(device)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), label).backward()
            optimizer.step()
            schedule.step()
    network = network.cpu().eval().requires_grad_(False)
    return TrainedClassifier(network, spec, classes, _accuracy(network, data, spec), seed)


def _own_copy(data: LightningDataModule, seed: int) -> Any:
    """The same data, whose stream of batches is our own: a training that goes on is not disturbed."""
    if not hasattr(data, "init_args"):
        return data
    own: Any = type(data)(**data.init_args)
    own.splits = {name: split.to(torch.device("cpu")) for name, split in getattr(data, "splits", {}).items()}
    own.batch_size, own.seed = _BATCH, seed
    return own


def _forever(data: LightningDataModule) -> Iterator[Batch]:
    loader = data.train_dataloader()
    while True:
        yield from loader


def _number_of_classes(data: Any, spec: DataSpec) -> int:
    labels = torch.cat([_labels(batch, spec) for batch in data.train_dataloader()])
    if len(labels.unique()) < 2:
        raise ZooError(f"{spec.name} has one class only: a classifier of it has no features. Choose raw ones.")
    return int(labels.max()) + 1


def _labels(batch: Batch, spec: DataSpec) -> Tensor:
    if batch.label is None:
        raise ZooError(f"{spec.name} has no labels to train a classifier on: choose raw features, or efficientnet_lite0.")
    return batch.label


def _accuracy(network: Classifier, data: Any, spec: DataSpec) -> float:
    right = total = 0
    with torch.no_grad():
        data.setup("test")
        for batch in data.test_dataloader():
            found = network(spec.to_unit(batch.x).float()).argmax(dim=1)
            right, total = right + int((found == batch.label).sum()), total + len(found)
    return right / total if total else math.nan


def _file_name(spec: DataSpec) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in spec.name)[:100] + "_cnn"


def _write(path: Path, found: TrainedClassifier) -> None:
    """As an npz file, in which nothing is pickled."""
    settings = {"spec": found.spec.to_dict(), "classes": found.classes, "accuracy": found.accuracy, "seed": found.seed}
    weights = {name: weight.numpy() for name, weight in found.network.state_dict().items()}
    with write_atomically(path, advice="Features are kept in the data's folder, else in ZOO_CACHE.") as file:
        np.savez(file, allow_pickle=False, settings=np.array(json.dumps(settings)), **weights)


def _read(path: Path, spec: DataSpec, seed: int) -> TrainedClassifier | None:
    """What is kept, None where it is not there, damaged, or of other data: it is then made again."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        with np.load(path, allow_pickle=False) as file:
            settings = json.loads(str(file["settings"]))
            if settings["spec"] != spec.to_dict() or settings["seed"] != seed:
                return None
            network = Classifier(spec.image_shape, int(settings["classes"]))
            network.load_state_dict({name: torch.from_numpy(file[name]) for name in network.state_dict()})
        network = network.eval().requires_grad_(False)
        return TrainedClassifier(network, spec, int(settings["classes"]), float(settings["accuracy"]), seed)
    except FileNotFoundError:
        return None
    except Exception:  # damage surfaces as almost any error of zip, npz and JSON
        return None
