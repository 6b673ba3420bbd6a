"""The factorized normal distribution that priors and posteriors share."""

from torch import Tensor
from torch.distributions import Independent, Normal

__all__ = ["factorized_normal"]


def factorized_normal(mean: Tensor, scale: Tensor) -> Independent:
    """N(mean, diag scale^2) of event shape (d,), from mean and scale (..., d).

    Neither arguments nor values are checked: each check would make the program wait for the device. What is not a number
    goes through to the loss, where the run is stopped.
    """
    return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)
