"""Gradient-boosted classification trees: all classes of all factors grow their trees at once."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zoo.metrics.disentanglement.trees import TreeGrower

__all__ = ["BoostedTrees"]


class BoostedTrees:
    r"""Creates one boosted classifier per factor, the model of scikit-learn's ``GradientBoostingClassifier``.

    Every stage fits one regression tree per class to the residuals :math:`r = \mathbb{1}[y = c] - p_c` of all points (one
    tree in all for a factor of two values). A leaf adds to the logit of its class, times the learning rate,

    .. math:: \frac{n_k - 1}{n_k} \cdot \frac{\sum r}{\sum |r| (1 - |r|)}

    without the fraction for two values. The importance of a code for a factor is the squared error that its splits
    remove, in all trees of the factor. Where several codes split a node equally well, scikit-learn takes one at random;
    here they share the importance, which is what that comes to on average.

    Arguments:
        stages: The number of trees of each class.
        depth: The depth of a tree.
        learning_rate: The factor of every leaf's step.

    Attributes:
        importances: After :meth:`fit`, the importance of every code for every factor, with shape (D, K). Columns
            sum to 1, or to 0 where no code splits at all.

    References:
        | Greedy Function Approximation: A Gradient Boosting Machine (Friedman, 2001), section 4.6
        | https://doi.org/10.1214/aos/1013203451

    See also:
        :class:`~zoo.metrics.disentanglement.trees.TreeGrower`
    """

    at_once = 40  # trees that grow side by side, few enough for the cache of a processor

    def __init__(self, stages: int = 100, depth: int = 3, learning_rate: float = 0.1):
        self.stages, self.depth, self.learning_rate = stages, depth, learning_rate

    def fit(self, codes: Tensor, labels: Tensor, sizes: list[int]) -> "BoostedTrees":
        r"""Grows all trees, T a stage.

        Arguments:
            codes: The codes, with shape (N, D).
            labels: The factors' values numbered from 0, with shape (N, K).
            sizes: The number of values of each factor, two or more.
        """
        self.widths = [1 if size == 2 else size for size in sizes]
        columns = [one_hot(y, size)[:, -width:] for y, size, width in zip(labels.T, sizes, self.widths, strict=True)]
        # Double precision: where |r| is nearly 1, a leaf's step hangs on the digits of 1 - |r|. Splits don't need it.
        targets = torch.cat(columns, dim=1).T.double()  # (T, N)
        damping = [1.0 if size == 2 else (size - 1) / size for size in sizes for _ in range(1 if size == 2 else size)]
        rates = self.learning_rate * targets.new_tensor(damping)[:, None]  # (T, 1)
        prior = targets.mean(dim=1, keepdim=True)
        self.start = torch.cat([p.logit() if len(p) == 1 else p.log() for p in prior.split(self.widths)])

        grower = TreeGrower(codes.T.contiguous(), self.depth)
        logits = self.start.repeat(1, len(codes))
        reduction = logits.new_zeros(codes.shape[1], len(logits))  # (D, T)
        chunks = [slice(first, first + self.at_once) for first in range(0, len(logits), self.at_once)]
        self.trees: list[tuple[slice, list[tuple[Tensor, Tensor]], Tensor]] = []
        for _ in range(self.stages):
            residuals = targets - self._probabilities(logits)
            for chunk in chunks:
                splits, leaves, reduced = grower.grow(residuals[chunk].float())
                slope, curvature = logits.new_zeros(2, len(leaves), 2**self.depth)
                slope.scatter_add_(1, leaves, residuals[chunk])
                size = residuals[chunk].abs_()
                curvature.scatter_add_(1, leaves, size.mul_(1 - size))
                steps = torch.where(curvature > 1e-150, rates[chunk] * slope / curvature, 0)
                logits[chunk] += steps.gather(1, leaves)
                reduction[:, chunk] += reduced
                self.trees.append((chunk, splits, steps))
        total = torch.stack([r.sum(dim=1) for r in reduction.split(self.widths, dim=1)], dim=1)
        self.importances = total / total.sum(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return self

    def predict(self, codes: Tensor) -> Tensor:
        r"""Returns the most probable value of every factor, numbered as in training, with shape (M, K)."""
        x = codes.T.contiguous()
        logits = self.start.repeat(1, len(codes))
        for chunk, splits, steps in self.trees:
            nodes = torch.zeros_like(logits[chunk], dtype=torch.int64)
            for code, threshold in splits:
                nodes = 2 * nodes + (x.gather(0, code.gather(1, nodes)) > threshold.gather(1, nodes))
            logits[chunk] += steps.gather(1, nodes)
        groups = logits.split(self.widths)
        return torch.stack([(g[0] > 0).long() if len(g) == 1 else g.argmax(dim=0) for g in groups], dim=1)

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities (T, N), normalized over the trees of each factor."""
        return torch.cat([g.sigmoid() if len(g) == 1 else g.softmax(dim=0) for g in logits.split(self.widths)])
