"""The device that was typed, of commands that use one."""

import torch

from zoo.errors import ZooError

__all__ = ["require_device"]


def require_device(device: str) -> None:
    """ZooError where this machine has no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZooError(f"--device {device}: not a device of this machine (cpu, cuda, mps).") from error
