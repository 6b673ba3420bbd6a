"""The training examples that lie next to samples, as a picture: whether a model makes new examples or copies."""

from pathlib import Path

from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.evaluation.inference import first_test_examples
from zoo.evaluation.references import examples_of
from zoo.evaluation.samples import sample, save_samples
from zoo.metrics.two_sample.neighbors import centered, nearest
from zoo.models.base import GenerativeModule
from zoo.options import require_at_least

__all__ = ["NEIGHBORS", "draw_neighbors", "nearest_training_examples"]

NEIGHBORS = "evaluation_neighbors.png"
_TRAINING = 50_000  # training examples among which they are sought


def nearest_training_examples(x: Tensor, data: LightningDataModule, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Finds the training example next to each of some samples, by :math:`\|x_i - t_j\|_2` of pixels or coordinates.

    Arguments:
        x: The samples in data space, (n, *shape).
        data: Data of their kind; of more than 50,000 training examples so many, drawn at random.
        seed: The seed of that draw, and of data that are drawn themselves.

    Returns:
        The examples, (n, *shape), and their distances, (n,), in the units of the data.

    Example:
        >>> from datamodules import Digits
        >>> data = Digits()
        >>> copies = examples_of(data, "train", 3, 0).x
        >>> found, distances = nearest_training_examples(copies, data)
        >>> bool((found == copies).all()), distances.tolist()
        (True, [0.0, 0.0, 0.0])
    """
    train = examples_of(data, "train", _TRAINING, seed).x
    points, queries = centered(train.flatten(1).double(), x.flatten(1).double())
    _, indices = nearest(queries, points)
    found = train[indices[:, 0]]
    return found, (found.flatten(1).double() - x.flatten(1).double()).norm(dim=1)


def draw_neighbors(
    model: GenerativeModule, data: LightningDataModule, folder: str | Path, n: int = 64, *, seed: int = 0
) -> Path:
    """Draws the training examples next to the samples of :func:`~zoo.evaluation.draw_samples`, each in its sample's place.

    Arguments:
        model: The model.
        data: Data of its kind.
        folder: Where ``evaluation_neighbors.png`` is written.
        n: How many.
        seed: The seed of the samples.

    Returns:
        The file.

    Raises:
        ZooError: if n is below 1.
    """
    require_at_least(1, n=n)
    x = sample(model, min(n, len(first_test_examples(data, n))), seed=seed)
    found, distances = nearest_training_examples(x, data, seed=seed)
    title = f"the training example next to each sample; median distance {distances.median():.4g}"
    return save_samples(found, model.spec, Path(folder) / NEIGHBORS, title=title)
