"""Multinomial logistic regression, fitted to the optimum by Newton's method without ever forming a Hessian."""

import torch
from torch import Tensor

__all__ = ["fit_logistic"]


def fit_logistic(x: Tensor, labels: Tensor, classes: int, tolerance: float = 1e-5, steps: int = 100) -> Tensor:
    r"""Fits weights :math:`w_c` and biases :math:`b_c` that minimize the penalized negative log-likelihood

    .. math:: \sum_n ( \log \sum_c e^{x_n^\top w_c + b_c} - x_n^\top w_{y_n} - b_{y_n} )
        + \frac{1}{2} \sum_c \|w_c\|^2

    as scikit-learn's ``LogisticRegression`` does with its defaults. For two classes that is the binary model with one
    vector :math:`w_1 - w_0` and the penalty :math:`\frac{1}{2} \|w_1 - w_0\|^2`, twice that of the formula.

    Every Newton step is solved by conjugate gradients, preconditioned with the Hessian's block of each class: two
    products with x for one iteration, whatever the number of classes.

    Arguments:
        x: The inputs, with shape (N, D).
        labels: The classes, int64 in :math:`0 … C - 1`, with shape (N,).
        classes: The number of classes :math:`C`.
        tolerance: The fit ends when no gradient entry of the mean loss exceeds it.
        steps: The largest number of Newton steps.

    Returns:
        The weights, biases last, with shape (C, D + 1): logits are ``x @ W[:, :-1].T + W[:, -1]``.
    """
    # Points run along the last dimension: sums over few classes are then sums of long rows, several times faster.
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1).T.contiguous()  # (D + 1, N)
    penalty = x.new_full((len(x),), 2.0 if classes == 2 else 1.0)
    penalty[-1] = 0.0
    targets = torch.nn.functional.one_hot(labels, classes).T.to(x)  # (C, N)

    def loss(weights: Tensor) -> tuple[Tensor, Tensor]:
        log_probabilities = (weights @ x).log_softmax(dim=0)
        return 0.5 * (penalty * weights**2).sum() - (targets * log_probabilities).sum(), log_probabilities.exp()

    weights = x.new_zeros(classes, len(x))
    value, probabilities = loss(weights)
    for _ in range(steps):
        gradient = (probabilities - targets) @ x.T + penalty * weights
        if gradient.abs().max() <= tolerance * len(labels):
            break
        # A direction within a tenth of Newton's needs no more than single precision; the loss below keeps double.
        rough = [tensor.float() for tensor in (x, probabilities, penalty, gradient)]
        direction = _newton_direction(*rough).to(x)
        slope, step = (gradient * direction).sum(), 1.0
        trial = loss(weights + direction)
        while trial[0] > value + 1e-4 * step * slope and step > 1e-6:
            step /= 2
            trial = loss(weights + step * direction)
        weights, (value, probabilities) = weights + step * direction, trial
    return weights


def _newton_direction(x: Tensor, probabilities: Tensor, penalty: Tensor, gradient: Tensor) -> Tensor:
    """Solves H d = -gradient to a tenth of the gradient's length; H d = (p ⊙ (dx - Σ p ⊙ dx)) xᵀ + penalty ⊙ d."""
    curvature = probabilities * (1 - probabilities)
    # A class that is nearly certain everywhere would leave the entry of its bias singular.
    ridge = torch.diag(penalty + 1e-6 * x.shape[1])
    blocks = torch.stack([(weight * x) @ x.T + ridge for weight in curvature])
    factors = torch.linalg.cholesky(blocks)  # (C, D + 1, D + 1)

    def precondition(residual: Tensor) -> Tensor:
        return torch.cholesky_solve(residual[..., None], factors).squeeze(-1)

    direction, residual = torch.zeros_like(gradient), -gradient
    goal = 0.1 * gradient.norm()
    search = preconditioned = precondition(residual)
    size = (residual * preconditioned).sum()
    for _ in range(50):
        change = search @ x
        change.sub_((probabilities * change).sum(dim=0)).mul_(probabilities)
        image = change @ x.T + penalty * search
        length = size / (search * image).sum()
        direction, residual = direction + length * search, residual - length * image
        if residual.norm() <= goal:
            break
        preconditioned = precondition(residual)
        size, previous = (residual * preconditioned).sum(), size
        search = preconditioned + size / previous * search
    return direction
