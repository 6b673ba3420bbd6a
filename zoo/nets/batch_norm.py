"""Batch normalization by the statistics of the global batch, whatever the number of processes."""

import torch
from torch import Tensor, nn

from zoo.distributed import all_sum, processes
from zoo.precision import autocast_off

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "synchronize_batch_norm"]


class _Global(nn.modules.batchnorm._BatchNorm):
    """In training on several processes, mean and variance over all their examples; torch's own layer else.

    Running statistics are then the same on all processes, which may have different numbers of examples. Where torch's
    ``SyncBatchNorm`` needs GPUs, this runs on any device, and its gradient has a gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        by_batch = self.training or self.running_mean is None
        if processes() == 1 or not by_batch:
            return super().forward(x)
        self._check_input_dim(x)
        with autocast_off(x.device.type):
            return self._normalize(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    def _normalize(self, x: Tensor) -> Tensor:
        others = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
        total = all_sum(torch.cat([x.sum(others).double(), count]))  # (C + 1,)
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = x - mean.to(x.dtype).view(shape)
        variance = all_sum(centered.square().sum(others).double()) / count
        if self.training:
            self._remember(mean.detach(), (variance * count / (count - 1).clamp_min(1)).detach())
        y = centered * (variance + self.eps).rsqrt().to(x.dtype).view(shape)
        return y if self.weight is None else y * self.weight.view(shape) + self.bias.view(shape)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), factor)
        self.running_var.lerp_(variance.to(self.running_var), factor)


class BatchNorm1d(_Global, nn.BatchNorm1d):
    """``nn.BatchNorm1d``, (B, C) or (B, C, L), over the examples of all processes in training."""


class BatchNorm2d(_Global, nn.BatchNorm2d):
    """``nn.BatchNorm2d``, (B, C, H, W), over the examples of all processes in training."""


class BatchNorm3d(_Global, nn.BatchNorm3d):
    """``nn.BatchNorm3d``, (B, C, D, H, W), over the examples of all processes in training."""


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}


def synchronize_batch_norm(module: nn.Module) -> nn.Module:
    """Make torch's layers within ``module`` those of this file, in place; parameters, buffers and their names stay.

    Example:
        >>> type(synchronize_batch_norm(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))[1]).__module__
        'zoo.nets.batch_norm'
    """
    for layer in module.modules():
        if type(layer) in _OURS:
            layer.__class__ = _OURS[type(layer)]
    return module
