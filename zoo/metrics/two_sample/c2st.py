"""The classifier two-sample test: how well can a small network tell held-out examples apart?"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair, order, require_different
from zoo.metrics.two_sample.permutations import check_permutations

__all__ = ["ClassifierTest", "c2st"]

_95 = 1.959964  # standard deviations


class ClassifierTest(NamedTuple):
    """A classifier two-sample test.

    Attributes:
        accuracy: On the held-out half, the mean of that on real and that on generated examples; 0.5 by chance.
        p_value: How likely so high an accuracy is for two samples of one distribution: exact for any size, by permutations.
        interval: The 95 % interval of the accuracy of this classifier on fresh examples.
        permutations: How many.
    """

    accuracy: float
    p_value: float
    interval: tuple[float, float]
    permutations: int

    @property
    def statistic(self) -> float:
        """The accuracy."""
        return self.accuracy


def c2st(x: Any, y: Any, *, seed: int = 0, permutations: int = 1000, hidden: int = 32, steps: int = 200) -> ClassifierTest:
    r"""Tests whether two samples are of one distribution by a classifier that is trained to tell them apart.

    Half of each sample trains a network with one hidden layer (full batches, Adam, weight decay; features are standardized
    with the training half's statistics); its accuracy is measured on the other half. The p-value comes from permutations of
    the labels there, since the normal approximation :math:`\mathcal{N}(1/2, 1 / 4 n_{te})` is off for small samples. Equal
    accuracies are told apart by the mean logit of the right class.

    Arguments:
        x: The real examples, with shape (N, ...).
        y: The generated ones, with shape (M, ...). Classes count alike whatever N and M are.
        seed: The seed of the halves, the network's first weights and the permutations.
        permutations: How many: no p-value is below ``1 / (permutations + 1)``.
        hidden: The network's hidden units.
        steps: Its training steps.

    Returns:
        The accuracy, its interval and the p-value.

    Raises:
        ZooError: for fewer than 4 examples of either sample, NaN, all examples the same, another number of features, and a
            number below 1.

    References:
        | Revisiting Classifier Two-Sample Tests (Lopez-Paz and Oquab, 2017)
        | https://arxiv.org/abs/1610.06545

    Example:
        >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> test = c2st(x, x + 2)
        >>> test.accuracy > 0.8, test.p_value < 0.01
        (True, True)
    """
    x, y = check_pair(x, y, "c2st", least=4)
    check_permutations(permutations)
    for name, value in (("hidden", hidden), ("steps", steps)):
        if value < 1:
            raise ZooError(f"{name} {value}: 1 or more is needed")
    require_different(torch.cat([x, y]), "x and y", "c2st")
    generator = torch.Generator().manual_seed(seed)
    halves = [_halves(sample, generator) for sample in (x, y)]
    train, held_out = (torch.cat([half[part] for half in halves]).float() for part in (0, 1))
    of_y_train, of_y = (
        torch.cat([torch.full((len(half[part]),), float(k)) for k, half in enumerate(halves)]).to(train) for part in (0, 1)
    )
    std, mean = torch.std_mean(train, dim=0)
    train, held_out = ((half - mean) / std.where(std > 0, 1) for half in (train, held_out))
    logits = _fitted(train, of_y_train, hidden, steps, generator)(held_out)
    places = [torch.randperm(len(of_y), generator=generator) for _ in range(permutations)]
    labels = torch.cat([of_y[None], of_y.cpu()[torch.stack(places)].to(of_y)]).double()  # (B + 1, held out)
    found, sizes = (logits > 0).double(), [int(of_y.sum()), int((1 - of_y).sum())]
    right = torch.stack([labels @ found, (1 - labels) @ (1 - found)])  # (2, B + 1)
    accuracies = (right[0] / sizes[0] + right[1] / sizes[1]) / 2
    margins = labels @ logits.double() / sizes[0] - (1 - labels) @ logits.double() / sizes[1]
    better, equal = accuracies > accuracies[0] + 1e-9, (accuracies - accuracies[0]).abs() <= 1e-9
    p = (better | (equal & (margins >= margins[0] - 1e-9))).double().mean().item()  # the true labels count
    interval = _interval(*right[:, 0].tolist(), *sizes)
    return ClassifierTest(accuracies[0].item(), p, interval, permutations)


def _halves(sample: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random half of a sample, and the rest, which has one more example where their number is odd."""
    places = order(sample)[torch.randperm(len(sample), generator=generator).to(sample.device)]
    first, rest = places.split((len(sample) // 2, len(sample) - len(sample) // 2))
    return sample[first], sample[rest]


@torch.enable_grad()
def _fitted(x: Tensor, labels: Tensor, hidden: int, steps: int, generator: torch.Generator) -> Any:
    """The map from features (n, D) to logits (n,) that a network learned; positive is for label 1."""
    shapes = ((x.shape[1], hidden), (hidden,), (hidden, 1), (1,))
    weights = [torch.randn(shape, generator=generator) * (shape[0] ** -0.5 if len(shape) == 2 else 0) for shape in shapes]
    weights = [weight.to(x.device).requires_grad_() for weight in weights]

    def logits(x: Tensor) -> Tensor:
        return ((x @ weights[0] + weights[1]).relu() @ weights[2] + weights[3]).squeeze(1)

    # Both classes weigh the same.
    balance = torch.where(labels > 0, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    optimizer = torch.optim.AdamW(weights, lr=0.02, weight_decay=0.1, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits(x), labels, balance, reduction="sum").backward()
        optimizer.step()
    return lambda x: logits(x).detach()


def _interval(right_y: float, right_x: float, of_y: int, of_x: int) -> tuple[float, float]:
    """The interval of the mean of two shares, from Wilson's of each (Newcombe 1998)."""
    shares, distances = [], []
    for right, of in ((right_y, of_y), (right_x, of_x)):
        share, z = right / of, _95
        middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
        half = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
        shares.append(share)
        distances.append((share - (middle - half), (middle + half) - share))
    mean = sum(shares) / 2
    below, above = (math.hypot(distances[0][side], distances[1][side]) / 2 for side in (0, 1))
    return max(0.0, mean - below), min(1.0, mean + above)
