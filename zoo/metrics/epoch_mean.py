"""The mean of a metric over an epoch, as it is logged: sums and counts of all processes, in double precision."""

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.distributed import all_sum

__all__ = ["EpochMean"]


class EpochMean(Metric):
    r"""Creates a metric that averages batch means over an epoch's examples, those of all processes:

    .. math:: \frac{\sum_b n_b m_b}{\sum_b n_b}

    One process may have fewer examples than another. Both sums are in float64; the mean has the dtype of the values, float32
    at least. Lightning's own mean over processes is too large where their number doesn't divide that of the examples: it
    averages the integer counts and drops what is behind the point.

    It is logged as it is, ``self.log(name, mean, metric_attribute=name)``, and need not be an attribute of the module:
    Lightning asks for the mean at the epoch's end and then resets it. Checkpoints hold nothing of it.

    Example:
        >>> mean = EpochMean()
        >>> mean.update(torch.tensor(1.0), 3)
        >>> mean.update(torch.tensor(5.0), 1)
        >>> mean.compute()
        tensor(2.)
    """

    is_differentiable = False
    full_state_update = False

    _sum: Tensor | None
    _count: int
    _result_type: torch.dtype

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)  # compute() does that
        self._forget()

    def update(self, value: Tensor, examples: int) -> None:
        """Adds a batch: the mean (a scalar) over so many examples. Waits for no device."""
        # Apple's GPUs have no double precision.
        wide = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
        self._sum = wide * examples if self._sum is None else self._sum + wide * examples
        self._count += examples
        self._result_type = torch.promote_types(value.dtype, torch.float32)

    def compute(self) -> Tensor:
        """The mean; all processes call it together."""
        if self._sum is None:
            return torch.tensor(torch.nan)
        total = all_sum(torch.stack([self._sum, torch.full_like(self._sum, self._count)]))
        return (total[0] / total[1]).to(self._result_type)

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._forget()

    def _forget(self) -> None:
        self._sum, self._count, self._result_type = None, 0, torch.float32
