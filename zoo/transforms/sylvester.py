"""Sylvester flow: a planar flow of many directions at once."""

import math
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.precision import autocast_off, without_autocast
from zoo.transforms.amortized import AmortizedParameters
from zoo.transforms.base import Transform
from zoo.transforms.planar import log_slope, solve_tanh_residual

__all__ = ["Sylvester", "orthogonalize", "reflect"]


class _Polar(torch.autograd.Function):
    """a (..., d, M) to its polar factor q, by iteration; the gradient from a = qp itself, not through the iterations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        eps = torch.finfo(a.dtype).eps
        unit = a / torch.linalg.vector_norm(a, float("inf"), (-2, -1), keepdim=True).clamp_min(torch.finfo(a.dtype).tiny)
        q = unit / torch.linalg.matrix_norm(unit, keepdim=True).clamp_min(1e-3)
        # What rounding leaves undecided is decided here: of a singular matrix no factor is the nearest, several are.
        q = q + 8 * eps * _full(q.shape[-2], q.shape[-1], q)
        lifts = math.ceil(math.log(8 / eps, 2.25)) + 8  # 8: for the smallest singular values of what was added
        for rho in [1.5] * lifts + [1.0] * 7:
            q = rho * (1.5 * q - 0.5 * rho**2 * q @ (q.mT @ q))
        return q

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output, output.mT @ inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # da = dq p + q dp with qᵀdq =: Ω antisymmetric and dp symmetric, so Ωp + pΩ = qᵀda - daᵀq, which the
        # eigenvectors of p solve; what of dq is orthogonal to q is the same part of da p⁻¹. Below, the adjoint.
        q, p = ctx.saved_tensors
        with autocast_off(q.device.type):  # which is on in a backward pass that a model makes in its training step
            values, vectors = torch.linalg.eigh((p + p.mT) / 2)  # (..., M), (..., M, M)
            floor = torch.finfo(q.dtype).eps * values.amax(-1, keepdim=True)  # of a singular matrix there is no gradient
            values = values.clamp_min(floor.clamp_min(torch.finfo(q.dtype).tiny ** 0.25))
            inside = q.mT @ gradient
            turned = vectors.mT @ (inside - inside.mT) @ vectors
            skew = vectors @ (turned / (values.unsqueeze(-1) + values.unsqueeze(-2))) @ vectors.mT
            return q @ skew + (gradient - q @ inside) @ (vectors / values.unsqueeze(-2)) @ vectors.mT


def _full(rows: int, columns: int, like: Tensor) -> Tensor:
    """A fixed matrix of orthonormal columns that has nothing to do with whatever matrix a network gives."""
    i, j = (torch.arange(size, device=like.device, dtype=torch.float64) for size in (rows, columns))
    angles = math.pi / (4 * rows) * torch.outer(2 * i + 1, 2 * j + 1)
    return (math.sqrt(2 / rows) * angles.cos()).to(like.dtype)


def orthogonalize(a: Tensor) -> Tensor:
    """The matrix with orthonormal columns that is nearest to a (..., d, M), d ≥ M: the polar factor, by iteration.

    Q ← ρQ(3I - ρ²QᵀQ)/2 drives all singular values to 1. Plain steps (ρ = 1) converge quadratically once they are above
    1/2; steps with ρ = 3/2 come first, each lifting the small ones 2.25-fold, enough for all that rounding leaves of
    them. Of a singular matrix, which has many nearest ones, it is one of these. A fixed number of matrix products: no wait
    for the device. The gradient is the polar factor's own, in closed form from an eigendecomposition of the M × M matrix
    QᵀA, whose eigenvalues count as no less than the precision times the largest.

    References:
        | An Iterative Algorithm for Computing the Best Estimate of an Orthogonal Matrix (Björck and Bowie, 1971)
        | https://doi.org/10.1137/0708036

    Example:
        >>> q = orthogonalize(torch.randn(5, 3, dtype=torch.float64))
        >>> torch.allclose(q.T @ q, torch.eye(3, dtype=torch.float64), atol=1e-12)
        True
    """
    return _Polar.apply(a)


def reflect(v: Tensor) -> Tensor:
    """The product of the Householder reflections I - 2vvᵀ/‖v‖² of the rows of v (..., H, d), a matrix (..., d, d).

    References:
        | Improving Variational Auto-Encoders using Householder Flow (Tomczak and Welling, 2016)
        | https://arxiv.org/abs/1611.09630

    Example:
        >>> reflect(torch.tensor([[0.0, 1.0]]))
        tensor([[ 1.,  0.],
                [ 0., -1.]])
    """
    q = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    # First by the largest entry, so that no square overflows or is lost; a row of zeros stays one, and reflects nothing.
    v = v / v.detach().abs().amax(-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
    for axis in torch.nn.functional.normalize(v, dim=-1).unbind(-2):
        q = q - 2 * (q @ axis.unsqueeze(-1)) @ axis.unsqueeze(-2)
    return q


class Sylvester(Transform):
    r"""Creates a Sylvester map y = x + Q R₁ tanh(R₂ Qᵀx + b), invertible for every value of its parameters.

    Q has M orthonormal columns, R₁ and R₂ are upper triangular, and tanh on their diagonals keeps every
    (R₁)ᵢᵢ(R₂)ᵢᵢ > -1. By Sylvester's identity the d × d determinant is that of a triangular M × M matrix:

    log|det| = Σᵢ log(1 + (R₁)ᵢᵢ (R₂)ᵢᵢ tanh'(R₂ Qᵀx + b)ᵢ).

    The kinds differ in Q: ``orthogonal``, M columns by iterated orthogonalization; ``householder``, a product of
    reflections (M = d); ``triangular``, the identity or the reversal of the dimensions, to be alternated (M = d).
    The inverse is exact to rounding: M scalar increasing functions, solved one after another by bisection.

    Shapes: x (..., d), context (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context that gives Q, R₁, R₂ and b for each example; 0 learns
            one set for all examples.
        kind: ``"orthogonal"``, ``"householder"`` or ``"triangular"``.
        directions: The number of columns M of the orthogonal kind; d if None.
        reflections: The number of reflections of the Householder kind.
        reverse: Whether Q of the triangular kind is the reversal: True in every second step of a flow.

    Raises:
        ZooError: if ``kind`` is none of these, if ``directions`` is not in 1, ..., d, or if there are context
            features and no context is given.

    References:
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018)
        | https://arxiv.org/abs/1803.05649

    Example:
        >>> flow, h = Sylvester(5, context_features=8, directions=3), torch.randn(32, 8)
        >>> y, log_det = flow(torch.randn(32, 5), h)
        >>> y.shape, log_det.shape
        (torch.Size([32, 5]), torch.Size([32]))
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        kind: str = "orthogonal",
        directions: int | None = None,
        reflections: int = 8,
        reverse: bool = False,
    ) -> None:
        super().__init__()
        m = features if directions is None else directions
        sizes = {"orthogonal": features * m, "householder": reflections * features, "triangular": 0}
        if kind not in sizes:
            raise ZooError(f"kind={kind!r}: give one of {', '.join(sizes)}")
        if not 1 <= m <= features or (kind != "orthogonal" and m < features):
            raise ZooError(f"directions={m}: give 1 to {features} for the orthogonal kind, {features} for the others")
        self.features, self.directions, self.kind, self.reverse = features, m, kind, reverse
        self.parameters_of = AmortizedParameters([sizes[kind], m * m, m, m], context_features)

    def _build(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, triangles, diagonal, b = self.parameters_of(context)
        identity = torch.eye(self.features, self.directions, dtype=b.dtype, device=b.device)
        if self.kind == "orthogonal":
            # Around the identity the parameters may all be 0, where nothing else could be orthogonalized.
            q = orthogonalize(identity + q.unflatten(-1, (self.features, self.directions)))
        elif self.kind == "householder":
            q = reflect(q.unflatten(-1, (-1, self.features)))
        else:
            q = identity.flip(0) if self.reverse else identity
        # One square matrix holds the diagonal and upper part of R₁ and, below the diagonal, the upper part of R₂.
        square = triangles.unflatten(-1, (self.directions, self.directions))  # (..., M, M)
        # tanh of a large number rounds to 1: one unit in the last place inside, the product stays above -1.
        bound = 1 - torch.finfo(b.dtype).eps
        r1 = square.triu(1) + torch.diag_embed(bound * torch.tanh(square.diagonal(dim1=-2, dim2=-1)))
        r2 = square.mT.triu(1) + torch.diag_embed(bound * torch.tanh(diagonal))
        return q, r1, r2, b

    @staticmethod
    def _log_det(s: Tensor, r1: Tensor, r2: Tensor) -> Tensor:
        product = r1.diagonal(dim1=-2, dim2=-1) * r2.diagonal(dim1=-2, dim2=-1)
        return log_slope(s, 1 + product).sum(-1)

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, r1, r2, b = self._build(context)
        s = _apply(r2, _apply(q.mT, x)) + b  # (..., M)
        return x + _apply(q, _apply(r1, torch.tanh(s))), self._log_det(s, r1, r2)

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, r1, r2, b = self._build(context)
        target = _apply(q.mT, y)
        # v = Qᵀx solves v + R₁ tanh(R₂v + b) = Qᵀy. Both matrices are upper triangular: the last row holds the last
        # entry of v alone, and each row above adds one unknown.
        v, t, s = (target.new_zeros(*target.shape[:-1], 0) for _ in range(3))
        for i in reversed(range(self.directions)):
            shift = b[..., i] + (r2[..., i, i + 1 :] * v).sum(-1)
            known = target[..., i] - (r1[..., i, i + 1 :] * t).sum(-1)
            v_i = solve_tanh_residual(known, r1[..., i, i], r2[..., i, i], shift)
            s_i = r2[..., i, i] * v_i + shift
            found = (v_i, v), (torch.tanh(s_i), t), (s_i, s)
            v, t, s = (torch.cat((new.unsqueeze(-1), old), dim=-1) for new, old in found)
        return y - _apply(q, _apply(r1, t)), -self._log_det(s, r1, r2)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """(..., n, m) times (..., m); sample dimensions of the vector don't copy the matrix, as they would in ``@``."""
    return torch.einsum("...nm,...m->...n", matrix, vector)
