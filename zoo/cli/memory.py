"""Memory of a process that computes the same again and again."""

import ctypes
import sys

__all__ = ["keep_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in GNU's malloc.h
_KEPT = 2**30
_OLDEST = 2**25  # the most that older versions take for the second


def keep_memory() -> bool:
    """Let GNU's C library keep what a step has freed for the next one; elsewhere nothing is done. Whether it was.

    By default it gives large blocks back to the system, which has to fill every page of the next ones with zeros: a quarter
    of a training step of a convolutional VAE of 64x64 images.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    trimmed = mallopt(_TRIM_THRESHOLD, _KEPT)
    return bool(trimmed and (mallopt(_MMAP_THRESHOLD, _KEPT) or mallopt(_MMAP_THRESHOLD, _OLDEST)))
