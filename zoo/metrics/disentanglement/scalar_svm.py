"""Linear support vector machines on one number each, hundreds at once: a Newton step costs a binary search."""

import torch
from torch import Tensor

__all__ = ["ScalarSVMs"]


class ScalarSVMs:
    r"""Creates a solver for one-vs-rest linear support vector machines that see a single code.

    For code d and class c, with :math:`s_n = 1` for points of the class and -1 for the rest, :meth:`fit` minimizes

    .. math:: \tfrac{1}{2} (w^2 + b^2) + C \sum_n a_n \max(0, 1 - s_n (w x_n + b))^2

    where points of the class weigh :math:`a_n = N / (\mathrm{classes} \cdot N_c)` and the rest 1, as scikit-learn's
    ``LinearSVC`` balances classes. With two classes the rest is weighed likewise, and the two solutions mirror each other.

    On a single number the points that violate their margin lie on one side of a threshold. Binary search finds them, and
    running sums give their count, sum and sum of squares: all that loss, gradient and Hessian need. Codes are sorted once,
    and a Newton step costs the same for a hundred points as for a million.

    Arguments:
        codes: The codes, with shape (N, D).
        penalty: The cost C of a margin violation.
    """

    def __init__(self, codes: Tensor, penalty: float = 0.01):
        self.x, self.order = codes.T.contiguous().sort(dim=1)  # (D, N)
        self.sums = _running_sums(self.x)
        self.penalty = penalty

    def fit(self, labels: Tensor, classes: int, steps: int = 100) -> tuple[Tensor, Tensor]:
        r"""Fits every code's machine of every class, all at once.

        Arguments:
            labels: The class of every point, in :math:`0 … \mathrm{classes} - 1`, with shape (N,).
            classes: The number of classes, each with a point at least.
            steps: The largest number of Newton steps and halvings of one.

        Returns:
            Weights and biases, each with shape :math:`(D, \mathrm{classes})`.
        """
        margins = _Margins(self.x, self.sums, labels[self.order], classes)
        solution = self.x.new_zeros(2, len(self.x), classes)
        value, gain, direction = self._newton(margins, solution)
        length = torch.ones_like(value)
        for _ in range(steps):
            if (gain <= 1e-12 * value).all():
                break
            trial = solution + length * direction
            trial_value, trial_gain, trial_direction = self._newton(margins, trial)
            better = trial_value < value
            solution, direction = torch.where(better, trial, solution), torch.where(better, trial_direction, direction)
            value, gain = torch.where(better, trial_value, value), torch.where(better, trial_gain, gain)
            length = torch.where(better, 1.0, length / 2)
        return solution[0], solution[1]

    def _newton(self, margins: "_Margins", solution: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss at solutions (2, D, C), what a Newton step promises to gain, and the step."""
        weight, bias = solution
        own, rest = margins.violations(weight, bias)
        n, s, q = 2 * self.penalty * (own + rest)
        tilt_bias, tilt_weight, _ = 2 * self.penalty * (rest - own)  # from the hinges' terms -2 s (w x + b)
        slope_weight = weight + weight * q + bias * s + tilt_weight
        slope_bias = bias + weight * s + bias * n + tilt_bias
        value = 0.5 * (weight * (slope_weight + tilt_weight) + bias * (slope_bias + tilt_bias) + n)
        determinant = (1 + q) * (1 + n) - s**2
        step_weight = (s * slope_bias - (1 + n) * slope_weight) / determinant
        step_bias = (s * slope_weight - (1 + q) * slope_bias) / determinant
        gain = -(slope_weight * step_weight + slope_bias * step_bias)
        return value, gain, torch.stack([step_weight, step_bias])


class _Margins:
    """The points that violate their margin, for each code and class, summed up by count, sum and sum of squares."""

    def __init__(self, x: Tensor, sums: Tensor, labels: Tensor, classes: int):
        codes, points = x.shape
        self.x, self.sums = x, sums
        problems = torch.arange(codes * classes, device=x.device).view(codes, classes)
        problem = (labels + problems[:, :1]).flatten()
        # Points by code, class and rank. Short integers sort several times faster.
        short = torch.int16 if problems.numel() < 2**15 else torch.int64
        position = problem.to(short).sort(stable=True).indices  # (D * N,)
        self.by_class = _running_sums(x.flatten()[position].view(codes, points))
        # A rank within a class is found under the key of problem and rank, a position within a code less its first.
        self.key, self.keys = problems * points, problem[position] * points + position % points
        self.first = torch.arange(codes, device=x.device)[:, None] * points
        start, stop = self._position(torch.zeros_like(problems)), self._position(torch.full_like(problems, points))
        self.start, size = _take(self.by_class, start), (stop - start).to(x)
        self.total = _take(self.by_class, stop) - self.start  # (3, D, C)
        self.own_weight = points / (classes * size)
        self.rest_weight = points / (classes * (points - size)) if classes == 2 else 1.0

    def violations(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted moments (3, D, C) of the violating points of each class, and of its rest."""
        own, _ = self._below((1 - bias) / weight)
        others, everyone = self._below((-1 - bias) / weight)
        rest, rest_total = everyone - others, self.sums[..., -1:] - self.total
        rising = weight >= 0
        own, rest = torch.where(rising, own, self.total - own), torch.where(rising, rest_total - rest, rest)
        return self.own_weight * own, self.rest_weight * rest

    def _below(self, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of the class's points below thresholds (D, C), and of all points below them."""
        rank = torch.searchsorted(self.x, threshold)
        return _take(self.by_class, self._position(rank)) - self.start, _take(self.sums, rank)

    def _position(self, rank: Tensor) -> Tensor:
        return torch.searchsorted(self.keys, self.key + rank) - self.first


def _running_sums(x: Tensor) -> Tensor:
    """Count, sum and sum of squares of the first 0 … N entries of each row (D, N): (3, D, N + 1)."""
    sums = x.new_zeros(3, len(x), x.shape[1] + 1)
    sums[0] = torch.arange(x.shape[1] + 1, device=x.device)
    torch.cumsum(torch.stack([x, x**2]), dim=2, out=sums[1:, :, 1:])
    return sums


def _take(sums: Tensor, places: Tensor) -> Tensor:
    """Running sums (3, D, N + 1) at places (D, C): (3, D, C)."""
    return sums.gather(2, places.expand(len(sums), -1, -1))
