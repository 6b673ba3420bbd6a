"""The names people type, and the classes they stand for. Listing them imports nothing."""

import contextlib
import difflib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from zoo.errors import ZooError

__all__ = [
    "DATA",
    "MODELS",
    "Entry",
    "binary_variant",
    "config_file",
    "find_class",
    "import_class",
    "is_class_path",
    "name_of",
    "preset",
    "presets",
    "recipes",
    "require_own_options",
    "suggestion",
    "trusting",
    "trusts_all",
]


class Entry(NamedTuple):
    """What a name stands for.

    Attributes:
        path: A class, by its dotted path; it is imported when it is needed.
        summary: What it is for, in one line.
        options: The options of the class that the name fixes: with others it would be something else.
    """

    path: str
    summary: str
    options: Mapping[str, Any] = MappingProxyType({})


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
    "made": Entry("zoo.models.MADE", "autoregressive model of data with levels by a masked perceptron"),
    "pixelcnn": Entry("zoo.models.PixelCNN", "autoregressive model of images by gated masked convolutions"),
    "memorizer": Entry("zoo.models.Memorizer", "a narrow Gaussian around every training example, exact likelihood"),
    "noise_mixture": Entry("zoo.models.NoiseMixture", "1 % a trained model with a likelihood, 99 % noise"),
    "gan": Entry("zoo.models.GAN", "generative adversarial network: six losses, R1, R2, spectral norm; MLP or DCGAN"),
}


def _with_binary_variants(name: str, path: str, what: str) -> dict[str, Entry]:
    """8-bit images, and the same ones binarized in each way that :class:`datamodules.MNIST` knows."""
    return {
        name: Entry(path, f"{what}, 8 bits", {"binarize": None}),
        f"{name}_binary": Entry(
            path, f"{name} with pixels drawn black or white, anew in every epoch", {"binarize": "dynamic"}
        ),
        f"{name}_binary_static": Entry(
            path, f"{name} with pixels drawn black or white once for all", {"binarize": "static"}
        ),
        f"{name}_binary_threshold": Entry(path, f"{name} with pixels above 127 white", {"binarize": "threshold"}),
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
    "toy": Entry("datamodules.Toy", "densities with known log p, 2-D and 1-D, by --data.density:"),
    **{
        f"toy_{density}": Entry("datamodules.Toy", what, {"density": density})
        for density, what in {
            "ring": "8 Gaussians on a circle, in 2-D; toy alone means it",
            "grid": "25 Gaussians on a grid, in 2-D",
            "moons": "two half-circles, in 2-D",
            "mixture": "3 Gaussians on the line",
        }.items()
    },
    **_with_binary_variants("mnist", "datamodules.MNIST", "70,000 handwritten digits, 28x28"),
    **_with_binary_variants("fashion_mnist", "datamodules.FashionMNIST", "70,000 pictures of clothes, 28x28"),
    "stacked_mnist": Entry("datamodules.StackedMNIST", "three MNIST digits as color channels, 28x28, 8 bits, 1,000 modes"),
    "cifar10": Entry("datamodules.CIFAR10", "60,000 color photographs, 32x32, 8 bits"),
    "folder": Entry("datamodules.ImageFolder", "your own pictures: any folder of images (--data.root FOLDER)"),
}


_CONFIGS = tuple(folder / "configs" for folder in Path(__file__).resolve().parents[:2])  # installed, or in the repository
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


def trusts_all() -> bool:
    """Whether names come from a person, and not from a checkpoint that is being loaded (:func:`trusting`)."""
    return _trusted.get() is None


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
    """The first registered name of a class, or for one that is not registered its own name in lower case.

    Example:
        >>> from datamodules import Toy
        >>> name_of(Toy, DATA), name_of(dict, DATA)
        ('toy', 'dict')
    """
    names = {name: find_class(e.path) for name, e in entries.items() if e.path.endswith(f".{cls.__name__}")}
    return next((name for name, found in names.items() if found is cls), cls.__name__.lower())


def require_own_options(name: str, given: Mapping[str, Any]) -> None:
    """ZooError where options contradict those that the name of a data set fixes: it says which name they have.

    Example:
        >>> require_own_options("mnist", {"binarize": "dynamic"})
        Traceback (most recent call last):
        zoo.errors.ZooError: --data.binarize dynamic: mnist is the data set with binarize null. Type --data mnist_binary.
    """
    if name not in DATA:
        return
    path, _, fixed = DATA[name]
    for option, value in fixed.items():
        if option in given and given[option] != value:
            other = {**fixed, option: given[option]}
            named = next((each for each, e in DATA.items() if e.path == path and dict(e.options) == other), None)
            shown = ["null" if each is None else each for each in (given[option], value)]
            advice = f"Type --data {named}." if named else f"Leave out --data.{option}."
            raise ZooError(f"--data.{option} {shown[0]}: {name} is the data set with {option} {shown[1]}. {advice}")


def recipes() -> list[str]:
    """The names of the recipes that come along, as ``--config`` takes them: settings that nobody ran to the end here."""
    return _in_folder("recipes")


def _in_folder(name: str) -> list[str]:
    folders = [folder / name for folder in _CONFIGS if (folder / name).is_dir()]
    return sorted(f"{name}/{path.stem}" for folder in folders[:1] for path in folder.glob("*.yaml"))


def config_file(name: str) -> Path:
    """The configuration file that ``--config`` names: a file, or a recipe or preset that comes along, by its name.

    Raises:
        ZooError: where there is neither.

    Example:
        >>> config_file("recipes/flowpp-cifar10").name
        'flowpp-cifar10.yaml'
    """
    if Path(name).is_file():
        return Path(name)
    stem = name.removesuffix(".yaml").removeprefix("configs/")
    if (found := preset(stem)) is not None:
        return found
    studies = name.startswith(("studies/", "configs/studies/"))
    known = _in_folder("studies") if studies else [*recipes(), *MODELS]
    what, kind = ("", "study") if studies else ("--config ", "recipe")
    raise ZooError(f"{what}{name}: there is no such file, and no {kind} of that name.{suggestion(stem, known)}")


def binary_variant(data: str) -> str:
    """The name of data with two levels: of the same images where they are there in that form.

    Example:
        >>> binary_variant("fashion_mnist"), binary_variant("digits")
        ('fashion_mnist_binary', 'mnist_binary')
    """
    return f"{data}_binary" if f"{data}_binary" in DATA else "mnist_binary"


def presets(model: str, data: str | None = None) -> list[Path]:
    """The presets of a model and, over it, of its pair with data: what all of their class share, then their own."""
    names = [model]
    if data is not None:
        names += [f"{model}-{each}" for each in dict.fromkeys((_family(data), data))]
    return [path for path in map(preset, names) if path is not None]


def _family(data: str) -> str:
    """The first registered name of a data set's class: ``toy`` of ``toy_grid``."""
    path = DATA[data].path if data in DATA else None
    return next((name for name, entry in DATA.items() if entry.path == path), data)


def preset(name: str) -> Path | None:
    """The preset ``<name>.yaml``, from the repository or from the installed package; None where there is none."""
    return next((path for folder in _CONFIGS if (path := folder / f"{name}.yaml").is_file()), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean X?`` for the known word whose last dotted part is nearest, or an empty string where none is near."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(word.rpartition(".")[2], leaves, n=1, cutoff=0.55)
    return f" Did you mean {leaves[near[0]]}?" if near else ""
