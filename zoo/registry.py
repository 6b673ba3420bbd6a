"""The names people type, and the classes they stand for. Listing them imports nothing."""

import contextlib
import difflib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from zoo.errors import ZooError

__all__ = [
    "DATA",
    "MODELS",
    "Entry",
    "find_class",
    "import_class",
    "is_class_path",
    "name_of",
    "preset",
    "suggestion",
    "trusting",
]


class Entry(NamedTuple):
    """A class path that is imported when it is needed, and what the class is for, in one line."""

    path: str
    summary: str


MODELS = {
    "vae": Entry("zoo.models.VAE", "variational autoencoder of five swappable parts"),
    "af_prior_vae": Entry("zoo.models.AFPriorVAE", "VAE with an autoregressive-flow prior, affine or spline"),
    "flow_posterior_vae": Entry("zoo.models.FlowPosteriorVAE", "VAE with a flow posterior: planar, Sylvester, IAF, ..."),
    "beta_vae": Entry("zoo.models.BetaVAE", "VAE with a weighted KL term"),
    "annealed_vae": Entry("zoo.models.AnnealedVAE", "VAE whose KL term follows a rising capacity"),
    "factor_vae": Entry("zoo.models.FactorVAE", "VAE with the codes' total correlation, estimated by a discriminator"),
    "beta_tcvae": Entry("zoo.models.BetaTCVAE", "VAE with the codes' total correlation, estimated from the batch"),
    "dip_vae": Entry("zoo.models.DIPVAE", "VAE with the codes' covariance drawn to the identity, variants I and II"),
    "flowpp": Entry("zoo.models.FlowPlusPlus", "image flow with a flow as dequantizer; RealNVP and Glow by options"),
    "gan": Entry("zoo.models.GAN", "generative adversarial network: five losses, R1, spectral norm, MLP or DCGAN networks"),
}

DATA = {
    "digits": Entry("datamodules.Digits", "1,797 real handwritten digits, 8x8, 17 levels; embedded, no download"),
    "dsprites": Entry("datamodules.DSprites", "737,280 sprites, 64x64, binary, 5 known factors; rendered here, no download"),
    "color_dsprites": Entry("datamodules.ColorDSprites", "dsprites, each in a random color, 3 channels, 8 bits"),
    "noisy_dsprites": Entry("datamodules.NoisyDSprites", "dsprites on colored noise, 3 channels, 8 bits"),
    "background_dsprites": Entry("datamodules.BackgroundDSprites", "dsprites inverting a photograph, embedded or your own"),
    "scream_dsprites": Entry("datamodules.ScreamDSprites", "dsprites inverting The Scream (--data.image FILE)"),
    "shapes3d": Entry("datamodules.Shapes3D", "480,000 shapes in a room, 64x64, color, 6 known factors"),
    "smallnorb": Entry("datamodules.SmallNORB", "48,600 photographs of toys, 64x64, gray, 4 known factors"),
    "cars3d": Entry("datamodules.Cars3D", "17,568 renderings of cars, 64x64, color, 3 known factors"),
    "toy": Entry("datamodules.Toy", "2-D and 1-D densities with known log p: ring, grid, moons, mixture"),
    "mnist": Entry("datamodules.MNIST", "70,000 handwritten digits, 28x28, 8 bits or binarized"),
    "fashion_mnist": Entry("datamodules.FashionMNIST", "70,000 pictures of clothes, 28x28, 8 bits or binarized"),
    "cifar10": Entry("datamodules.CIFAR10", "60,000 color photographs, 32x32, 8 bits"),
    "folder": Entry("datamodules.ImageFolder", "your own pictures: any folder of images (--data.root FOLDER)"),
}


_OURS = ("zoo", "datamodules", "callbacks")
_trusted: ContextVar[tuple[str, ...] | None] = ContextVar("trusted", default=None)  # None: whatever is named


def is_class_path(path: str) -> bool:
    """Whether a string has the form ``module.Class``."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path) is not None


@contextlib.contextmanager
def trusting(modules: Iterable[str]) -> Iterator[None]:
    """Within it, classes are found in the zoo's packages, in these modules and packages, and in what is imported already.

    To import a module is to run it. What a person types or writes into a configuration may name any; what a checkpoint
    says, which comes from anywhere, may not.

    Arguments:
        modules: Names of modules and packages, ``my_file``.
    """
    before = _trusted.set((*_OURS, *modules))
    try:
        yield
    finally:
        _trusted.reset(before)


def find_class(path: str) -> type:
    """The class that a dotted path names.

    Raises:
        ZooError: within :func:`trusting`, where it is in a module that is not trusted; nothing was imported then.
        ImportError: where there is no such module, or none that can be imported.
        AttributeError: where the module has no such class.
    """
    module, _, name = path.rpartition(".")
    if (trusted := _trusted.get()) is not None:
        if not is_class_path(path):
            raise ZooError(f"{path[:200]!r} is no name of a class")
        if not any(module == each or module.startswith(f"{each}.") for each in trusted):
            # A module that is imported already may find what it lacks by importing more, so only what it has counts.
            found = getattr(sys.modules.get(module), "__dict__", {}).get(name)
            if not isinstance(found, type):
                root = module.partition(".")[0]
                raise ZooError(
                    f"{path} is not part of the zoo, and nothing of it was imported. If you trust it, add --trust {root}; "
                    f"in Python, zoo.load(..., trust=({root!r},))."
                )
            return found
    return getattr(importlib.import_module(module), name)


def import_class(path: str, base: type = object) -> type:
    """The class at a dotted path, the current folder included.

    Raises:
        ZooError: where there is none, or one that doesn't derive from ``base``, or one that can't be made.
    """
    try:
        found = find_class(path)
    except ZooError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise ZooError(f"can't import {path}: {error}.\nGive module.Class, importable from {Path.cwd()}.") from error
    if not isinstance(found, type) or not issubclass(found, base):
        raise ZooError(f"{path} is no {base.__name__}: give a class that derives from it.")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ZooError(f"{path} is abstract: it must define {', '.join(missing)}.")
    return found


def name_of(cls: type, entries: Mapping[str, Entry]) -> str:
    """The registered name of a class, or for one that is not registered its own name in lower case.

    Example:
        >>> from datamodules import Toy
        >>> name_of(Toy, DATA), name_of(dict, DATA)
        ('toy', 'dict')
    """
    names = {find_class(e.path): name for name, e in entries.items() if e.path.endswith(f".{cls.__name__}")}
    return names.get(cls, cls.__name__.lower())


def preset(name: str) -> Path | None:
    """The preset ``<name>.yaml``, from the repository or from the installed package; None where there is none."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (path := folder / f"{name}.yaml").is_file():
            return path
    return None


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean X?`` for the known word whose last dotted part is nearest, or an empty string where none is near."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(word.rpartition(".")[2], leaves, n=1, cutoff=0.55)
    return f" Did you mean {leaves[near[0]]}?" if near else ""
