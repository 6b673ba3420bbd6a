"""The contract of an invertible map, and the ways to put maps together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.nets.module_list import module_list

__all__ = [
    "Compose",
    "Inverse",
    "NotInvertibleError",
    "Permutation",
    "Reverse",
    "Transform",
]

_Direction = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


class NotInvertibleError(NotImplementedError):
    """A transform that can only be evaluated forwards was asked for its inverse."""


class Transform(nn.Module, ABC):
    r"""Creates an invertible map y = f(x), evaluated together with log|det ∂f/∂x|.

    A subclass defines ``forward`` and, where it can, ``inverse``. Both return the value and the log-determinant of the
    direction that was evaluated, so ``log p(x) = log p(f(x)) + log_det`` and the two log-determinants sum to zero.

    Shapes: x and y are (..., d), a context is (B, c), log_det is (...): the event is summed, one value per example.
    In front of (B, d) further sample dimensions may stand: (K, B, d) with a context (B, c) computes the parameters once
    per example, not K times. Units: nats.

    Raises:
        NotInvertibleError: by ``inverse``, where a subclass has none.

    References:
        | Normalizing Flows for Probabilistic Modeling and Inference (Papamakarios et al., 2019)
        | https://arxiv.org/abs/1912.02762

    Example:
        >>> class Double(Transform):
        ...     def forward(self, x, context=None):
        ...         return 2 * x, torch.full(x.shape[:-1], x.shape[-1] * 2.0).log()
        >>> Double()(torch.ones(1, 2))
        (tensor([[2., 2.]]), tensor([1.3863]))
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y = f(x) and log|det ∂f/∂x|."""

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = f⁻¹(y) and log|det ∂f⁻¹/∂y|."""
        raise NotInvertibleError(
            f"{type(self).__name__} has no inverse. It can be a posterior, which is only evaluated forwards; "
            "where both directions are needed, use an autoregressive transform such as AffineAutoregressive."
        )


class Compose(Transform):
    """Creates the composition f_K ∘ … ∘ f_1, whose log-determinant is the sum of the parts'.

    Every part is given the same context. Without parts it is the identity on vectors.

    Arguments:
        transforms: The maps f_1, ..., f_K, in the order in which ``forward`` applies them.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770

    Example:
        >>> flip_twice = Compose([Reverse(), Reverse()])
        >>> y, log_det = flip_twice(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> y
        tensor([[1., 2., 3.]])
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = module_list(transforms)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._chain([transform.forward for transform in self.transforms], x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._chain([transform.inverse for transform in reversed(self.transforms)], y, context)

    @staticmethod
    def _chain(maps: Sequence[_Direction], x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if not maps:
            return x, x.new_zeros(x.shape[:-1])
        log_dets = []
        for f in maps:
            x, log_det = f(x, context)
            log_dets.append(log_det)
        return x, sum(log_dets[1:], log_dets[0])


class Inverse(Transform):
    """Creates the map f⁻¹: the two directions of a transform change places.

    A flow that is fast from data to noise becomes one that is fast from noise to data, which is what makes an
    autoregressive-flow prior and an inverse-autoregressive posterior the same model.

    Arguments:
        transform: The map f.

    Raises:
        NotInvertibleError: by ``forward``, where f has no inverse.

    References:
        | Variational Lossy Autoencoder (Chen et al., 2016), section 3.2
        | https://arxiv.org/abs/1611.02731

    Example:
        >>> Inverse(Permutation([2, 0, 1]))(torch.tensor([[30.0, 10.0, 20.0]]))[0]
        tensor([[10., 20., 30.]])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform(y, context)


class Permutation(Transform):
    """Creates the map y_i = x_{order[i]}; its log-determinant is 0.

    Arguments:
        order: The index that each output is taken from.

    Raises:
        ZooError: if ``order`` is not a permutation of 0, ..., d-1.

    References:
        | Density Estimation using Real NVP (Dinh et al., 2016)
        | https://arxiv.org/abs/1605.08803

    Example:
        >>> Permutation([2, 0, 1])(torch.tensor([[10.0, 20.0, 30.0]]))[0]
        tensor([[30., 10., 20.]])
    """

    order: Tensor

    def __init__(self, order: Sequence[int] | Tensor) -> None:
        super().__init__()
        order = torch.as_tensor(order)
        if sorted(order.tolist()) != list(range(len(order))):
            raise ZooError(f"order {order.tolist()}: each of 0, ..., {len(order) - 1} is needed exactly once")
        self.register_buffer("order", order)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[..., self.order], x.new_zeros(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y[..., self.order.argsort()], y.new_zeros(y.shape[:-1])


class Reverse(Transform):
    """Creates the map y_i = x_{d-1-i}, its own inverse; its log-determinant is 0.

    References:
        | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934

    Example:
        >>> Reverse()(torch.tensor([[1.0, 2.0, 3.0]]))[0]
        tensor([[3., 2., 1.]])
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flip(-1), x.new_zeros(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self(y)
