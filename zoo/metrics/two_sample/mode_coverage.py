"""Which of the modes or classes of the data a model finds, and in which proportions."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair
from zoo.metrics.two_sample.neighbors import nearest

__all__ = ["ClassCoverage", "ModeCoverage", "class_coverage", "mode_coverage", "stacked_classes"]


class ModeCoverage(NamedTuple):
    """What of known modes was found.

    Attributes:
        modes: How many have a generated example within the radius.
        share: The share of generated examples that are within the radius of some mode.
        kl: KL(generated ‖ data) of these examples' proportions over the modes, nats; infinite where there are none.
    """

    modes: int
    share: float
    kl: float


class ClassCoverage(NamedTuple):
    """What of known classes was found.

    Attributes:
        modes: How many classes have a generated example.
        kl: KL(generated ‖ data) of the proportions of classes, nats.
    """

    modes: int
    kl: float


def mode_coverage(y: Any, means: Any, std: float, *, radius: float = 3.0) -> ModeCoverage:
    r"""Counts the modes of a mixture of equally likely Gaussians that generated examples find.

    Arguments:
        y: The generated examples, with shape (M, D).
        means: The modes' centers, with shape (K, D).
        std: Their standard deviation.
        radius: How many of these an example may be away from the nearest center. Of real examples in two dimensions 98.9 %
            are within 3.

    Returns:
        The number of modes, the share of examples within the radius, and how far their proportions are from equal ones.

    Raises:
        ZooError: for no examples, NaN, centers of another dimension, and numbers that are not above 0.

    References:
        | VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017)
        | https://arxiv.org/abs/1705.07761

    Example:
        >>> means = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
        >>> mode_coverage(torch.tensor([[0.1, 0.0], [0.0, 0.2], [2.5, 0.0]]), means, std=0.1)
        ModeCoverage(modes=1, share=0.666..., kl=0.693...)
    """
    means, y = check_pair(means, y, "mode_coverage", least=1, names=("means", "y"))
    if not (std > 0 and radius > 0):
        raise ZooError(f"std {std} and radius {radius}: both must be above 0")
    distances, own = nearest(y, means)
    found = own[distances <= (radius * std) ** 2].bincount(minlength=len(means))
    kl = _divergence(found, torch.ones_like(found)) if found.any() else float("inf")
    return ModeCoverage(int((found > 0).sum()), found.sum().item() / len(y), kl)


def class_coverage(labels: Any, classes: int, *, data_labels: Any = None, probabilities: Any = None) -> ClassCoverage:
    r"""Counts the classes that generated examples find, as a classifier sees them.

    The classifier decides: state how it was trained and its accuracy beside the score. For stacked MNIST, 1,000 classes of
    three digits each, 26,000 examples are usual; :func:`stacked_classes` numbers them.

    Arguments:
        labels: The classes of generated examples, whole numbers from 0 on, with shape (M,).
        classes: The number of classes.
        data_labels: The classes of real examples, with shape (N,), with whose proportions to compare; equal ones if not
            given.
        probabilities: These proportions themselves where they are known, with shape (classes,).

    Returns:
        The number of classes and the divergence; this is infinite where generated examples have a class that the data lack.

    Raises:
        ZooError: for no labels, labels that are no classes, and probabilities that are none or given beside ``data_labels``.

    References:
        | Unrolled Generative Adversarial Networks (Metz et al., 2017)
        | https://arxiv.org/abs/1611.02163

    Example:
        >>> class_coverage(torch.tensor([0, 1, 1, 0]), 4)
        ClassCoverage(modes=2, kl=0.693...)
    """
    counts = _counts(labels, classes, "labels")
    if probabilities is not None:
        of_data = _probabilities(probabilities, classes, data_labels)
    else:
        of_data = torch.ones_like(counts) if data_labels is None else _counts(data_labels, classes, "data_labels")
    return ClassCoverage(int((counts > 0).sum()), _divergence(counts, of_data.to(counts.device)))


def stacked_classes(digits: Any, base: int = 10) -> Tensor:
    r"""Numbers the classes of images whose channels have classes of their own: (N, C) to (N,), 100 a + 10 b + c for digits.

    Example:
        >>> stacked_classes(torch.tensor([[1, 2, 3]]))
        tensor([123])
    """
    digits = torch.as_tensor(digits)
    if digits.ndim != 2 or digits.is_floating_point() or digits.min() < 0 or digits.max() >= base:
        raise ZooError(f"digits must be whole numbers from 0 to {base - 1} with shape (N, C), got {tuple(digits.shape)}")
    powers = base ** torch.arange(digits.shape[1] - 1, -1, -1, device=digits.device)
    return (digits.long() * powers).sum(dim=1)


def _counts(labels: Any, classes: int, name: str) -> Tensor:
    labels = torch.as_tensor(labels).detach()
    if labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point():
        raise ZooError(f"{name} must be whole numbers with shape (N,), got {tuple(labels.shape)} of {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ZooError(f"{name} must be classes from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    return labels.long().bincount(minlength=classes)


def _probabilities(given: Any, classes: int, data_labels: Any) -> Tensor:
    if data_labels is not None:
        raise ZooError("data_labels and probabilities are two ways to say one thing: give one of them")
    probabilities = torch.as_tensor(given).detach()
    fits = probabilities.shape == (classes,) and probabilities.is_floating_point() and bool((probabilities >= 0).all())
    if not fits or abs(probabilities.double().sum().item() - 1) > 1e-3:
        raise ZooError(f"probabilities must be {classes} numbers from 0 on whose sum is 1, got {tuple(probabilities.shape)}")
    return probabilities


def _divergence(counts: Tensor, of_data: Tensor) -> float:
    """KL of proportions, nats; 0 log 0 is 0."""
    p, q = counts.double() / counts.sum(), of_data.double() / of_data.sum()
    terms = p * (p / q).log()
    return terms.where(p > 0, 0).sum().item()
