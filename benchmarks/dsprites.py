"""Time to draw, write and read all 737,280 dSprites images, 64x64, on one core.

Run from the root of the repository: ``OMP_NUM_THREADS=1 python -m benchmarks.dsprites``

Median of three runs on a shared 2-core CPU (AMD EPYC), numpy 2.4: draw 6.7 s (9.1 us per image), write 2.7 s
(5.46 MB), read 1.9 s (377 MB in memory); the checksum agrees.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path

from datamodules import dsprites_render as dsprites


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def main():
    if hasattr(os, "sched_setaffinity"):  # Linux: one core for good, whatever numpy was built with
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    images, drawing = timed(dsprites._draw_all, 64, False)
    digest = hashlib.sha256(images).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dsprites-64.npz"
        _, writing = timed(dsprites._cached, path, lambda: images)
        _, reading = timed(dsprites.packed, folder)
        size = path.stat().st_size
    print(f"draw   {drawing:6.2f} s   {drawing / len(images) * 1e6:.1f} us per image")
    print(f"sha256 {digest}   {'agrees' if digest == dsprites.PACKED_SHA256 else 'DIFFERS'}")
    print(f"write  {writing:6.2f} s   {size / 1e6:.2f} MB")
    print(f"read   {reading:6.2f} s   {images.nbytes / 1e6:.0f} MB in memory")


if __name__ == "__main__":
    main()
