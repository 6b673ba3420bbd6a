"""Multinomial logistic regression, fitted to the optimum by Newton's method without ever forming a Hessian."""

import torch
from torch import Tensor

__all__ = ["fit_logistic"]


def fit_logistic(
    x: Tensor,
    labels: Tensor,
    classes: int,
    tolerance: float = 1e-5,
    steps: int = 100,
    penalty: float = 1.0,
    balanced: bool = False,
) -> Tensor:
    r"""Fits weights :math:`w_c` and biases :math:`b_c` that minimize the penalized negative log-likelihood

    .. math:: \sum_n a_n ( \log \sum_c e^{x_n^\top w_c + b_c} - x_n^\top w_{y_n} - b_{y_n} )
        + \frac{\lambda}{2} \sum_c \|w_c\|^2

    as scikit-learn's ``LogisticRegression`` does, with its defaults :math:`a_n = 1` and :math:`\lambda = 1`. For two
    classes that is the binary model with one vector :math:`w_1 - w_0` and the penalty
    :math:`\frac{\lambda}{2} \|w_1 - w_0\|^2`, twice that of the formula.

    Every Newton step is solved by conjugate gradients, preconditioned with the Hessian's block of each class: two
    products with x for one iteration, whatever the number of classes.

    Arguments:
        x: The inputs, with shape (N, D).
        labels: The classes, int64 in :math:`0 … C - 1`, with shape (N,).
        classes: The number of classes :math:`C`.
        tolerance: The fit ends when no gradient entry of the mean loss exceeds it.
        steps: The largest number of Newton steps.
        penalty: :math:`\lambda`. Without any, classes that can be told apart without error have no optimum: the fit ends
            where the tolerance is met, after some ten steps.
        balanced: Whether all classes weigh the same, :math:`a_n = N / (C N_{y_n})` with the class's count.

    Returns:
        The weights, biases last, with shape (C, D + 1): logits are ``x @ W[:, :-1].T + W[:, -1]``.
    """
    # Points run along the last dimension: sums over few classes are then sums of long rows, several times faster.
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1).T.contiguous()  # (D + 1, N)
    ridge = x.new_full((len(x),), penalty * (2 if classes == 2 else 1))
    ridge[-1] = 0.0
    targets = torch.nn.functional.one_hot(labels, classes).T.to(x)  # (C, N)
    counts = targets.sum(dim=1)
    emphasis = (len(labels) / (classes * counts))[labels] if balanced else x.new_ones(len(labels))

    def loss(weights: Tensor) -> tuple[Tensor, Tensor]:
        log_probabilities = (weights @ x).log_softmax(dim=0)
        fit = (targets * log_probabilities).sum(dim=0) @ emphasis
        return 0.5 * (ridge * weights**2).sum() - fit, log_probabilities.exp()

    weights = x.new_zeros(classes, len(x))
    value, probabilities = loss(weights)
    for _ in range(steps):
        gradient = ((probabilities - targets) * emphasis) @ x.T + ridge * weights
        if gradient.abs().max() <= tolerance * len(labels):
            break
        # A direction within a tenth of Newton's needs no more than single precision; the loss below keeps double.
        rough = [tensor.float() for tensor in (x, probabilities, emphasis, ridge, gradient)]
        direction = _newton_direction(*rough).to(x)
        slope, step = (gradient * direction).sum(), 1.0
        trial = loss(weights + direction)
        while trial[0] > value + 1e-4 * step * slope and step > 1e-6:
            step /= 2
            trial = loss(weights + step * direction)
        weights, (value, probabilities) = weights + step * direction, trial
    return weights


def _newton_direction(x: Tensor, probabilities: Tensor, emphasis: Tensor, ridge: Tensor, gradient: Tensor) -> Tensor:
    """Solves H d = -gradient to a tenth of the gradient's length; H d = (a ⊙ p ⊙ (dx - Σ p ⊙ dx)) xᵀ + ridge ⊙ d."""
    weighted = probabilities * emphasis
    curvature = weighted * (1 - probabilities)
    # A class that is nearly certain everywhere would leave the entry of its bias singular, and without a penalty codes that
    # depend on each other the rest: by what many of them are off by rounding.
    floor = torch.diag(ridge + max(1e-6, 5e-8 * len(x)) * x.shape[1])
    blocks = torch.stack([(weight * x) @ x.T + floor for weight in curvature])
    factors = torch.linalg.cholesky(blocks)  # (C, D + 1, D + 1)

    def precondition(residual: Tensor) -> Tensor:
        return torch.cholesky_solve(residual[..., None], factors).squeeze(-1)

    direction, residual = torch.zeros_like(gradient), -gradient
    goal = 0.1 * gradient.norm()
    search = preconditioned = precondition(residual)
    size = (residual * preconditioned).sum()
    for _ in range(50):
        change = search @ x
        change.sub_((probabilities * change).sum(dim=0)).mul_(weighted)
        image = change @ x.T + ridge * search
        length = size / (search * image).sum()
        direction, residual = direction + length * search, residual - length * image
        if residual.norm() <= goal:
            break
        preconditioned = precondition(residual)
        size, previous = (residual * preconditioned).sum(), size
        search = preconditioned + size / previous * search
    return direction
