"""Your own pictures: any folder of images, made one size and kept decoded."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from datamodules.base import DataModule
from datamodules.files import reading
from datamodules.loader import Arrays
from datamodules.memory_map import memory_mapped
from datamodules.readers import open_picture, require_few_pixels
from zoo.errors import ZooError
from zoo.options import require_between
from zoo.progress import progress_bar
from zoo.spec import DataSpec

__all__ = ["ImageFolder"]

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"}
_SHARES = {"train": 0.8, "val": 0.9, "test": 1.0}  # where each split ends


class ImageFolder(DataModule):
    """The pictures of a folder and its sub-folders, 256 levels, or of gray ones as many as their 16 bits hold.

    Each picture is turned as its EXIF says, laid on white where it is transparent, cut to the central square and
    resized to size x size (bicubic, antialiased); of a moving picture the first frame counts. Hidden files and folders
    are left out. Decoded pictures are kept in a memory-mapped file in the cache folder (ZOO_CACHE, else
    XDG_CACHE_HOME/zoo, else ~/.cache/zoo), never in the folder itself; a changed folder is decoded again.

    Splits: about 80 % train, 10 % validation, 10 % test, by a hash of each picture's path inside the folder, so that
    adding or removing pictures moves no other from one split to another. Sub-folders called train or test are
    sub-folders like all others: give one of them as ``root`` to keep them apart. Where every picture is in a
    sub-folder, ``label`` numbers the sub-folders in alphabetical order.

    Arguments:
        root: The folder.
        size: Height and width.
        channels: 3 for color, 1 for gray.
        levels: 256: of 16 bits the upper 8 count. More, up to 65536: gray pictures of 16 bits as they are, whose values lie
            below ``levels`` (4096 for 12 bits in 16), with ``channels`` 1.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: where there is no such folder, no picture in it, too few for three splits, a damaged one, or one whose
            values are not those of ``levels``.
    """

    def __init__(
        self,
        root: str | None = None,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        levels: int = 256,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        super().__init__(batch_size, eval_batch_size, seed, on_device)
        require_between(1, 4096, size=size)
        if root is None:
            raise ZooError("the folder data set needs your pictures: name their folder with --data.root FOLDER.")
        self.root, self.size, self.channels, self.levels = Path(root).expanduser(), size, channels, levels
        if not self.root.is_dir():
            raise ZooError(f"{root} is not a folder: name the one that holds your pictures with --data.root FOLDER.")
        if size < 1 or channels not in (1, 3):
            raise ZooError(f"size {size} and channels {channels}: a size of 1 or more and 1 or 3 channels are accepted.")
        if not 256 <= levels <= 2**16 or (levels > 256 and channels != 1):
            raise ZooError(
                f"levels {levels} of {channels} channels: 256 are accepted, and up to {2**16} of gray pictures of 16 bits, "
                "with --data.channels 1."
            )

    @property
    def spec(self) -> DataSpec:
        """Square pictures, called after the folder, and after the number of levels where it is not 256."""
        name = self.root.resolve().name + (f",{self.levels} levels" if self.levels != 256 else "")
        return DataSpec(f"folder[{name}]", (self.channels, self.size, self.size), self.levels)

    def prepare_data(self) -> None:
        """Decode the pictures, once for all processes and runs."""
        self.setup()

    def load(self) -> dict[str, Arrays]:
        """The three splits."""
        groups = self._groups()
        paths = [path for group in groups.values() for path in group]
        images, labels = self._decoded(paths), self._labels(paths)
        splits, start = {}, 0
        for split, group in groups.items():
            # Slices, not copies: the pictures may be larger than the memory.
            part = slice(start, start + len(group))
            start = part.stop
            splits[split] = Arrays(images[part], label=None if labels is None else labels[part])
        return splits

    def _groups(self) -> dict[str, list[Path]]:
        """Paths inside the folder, by split and in order of their names."""
        groups: dict[str, list[Path]] = {split: [] for split in _SHARES}
        for folder, inside, names in os.walk(self.root):
            inside[:] = [name for name in inside if not name.startswith((".", "__MACOSX"))]
            for name in names:
                if not name.startswith(".") and Path(name).suffix.lower() in _ENDINGS:
                    path = Path(folder, name).relative_to(self.root)
                    groups[_split(path)].append(path)
        total = sum(map(len, groups.values()))
        if not total:
            endings = " ".join(sorted(ending[1:] for ending in _ENDINGS))
            raise ZooError(f"no picture in {self.root} or its sub-folders; these are looked for: {endings}.")
        if empty := [split for split, group in groups.items() if not group]:
            raise ZooError(
                f"{total} pictures in {self.root} are too few: the {' and '.join(empty)} split got none.\n"
                "Pictures go to splits by a hash of their names, 80/10/10; with 100 or more none is likely to stay empty."
            )
        return {split: sorted(group) for split, group in groups.items()}

    def _labels(self, paths: list[Path]) -> torch.Tensor | None:
        if any(len(path.parts) == 1 for path in paths):
            return None
        classes = sorted({path.parts[0] for path in paths})
        number = {name: label for label, name in enumerate(classes)}
        return torch.tensor([number[path.parts[0]] for path in paths])

    def _decoded(self, paths: list[Path]) -> torch.Tensor:
        """The decoded pictures (N, C, H, W), kept under a name that follows from the files as they are."""
        names = []
        for path in paths:
            with reading(self.root / path):
                stat = (self.root / path).stat()
            names.append((os.fsencode(path), stat.st_size, stat.st_mtime_ns))
        how = (self.size, self.channels, *([self.levels] if self.levels != 256 else []))
        key = hashlib.sha256(repr((2, *how, names)).encode()).hexdigest()[:24]
        shape = (len(paths), self.channels, self.size, self.size)
        return memory_mapped(f"folder-{key}.npy", shape, lambda images: self._decode(paths, images), self.spec.dtype)

    def _decode(self, paths: list[Path], images: np.ndarray) -> None:
        def decode(number: int) -> None:
            images[number] = _picture(self.root / paths[number], self.size, self.channels, self.levels)

        with ThreadPoolExecutor() as pool:  # Pillow works without Python's lock
            for _ in progress_bar(pool.map(decode, range(len(paths))), "decoding pictures", len(paths), "pictures"):
                pass


def _split(path: Path) -> str:
    """The split of a picture, from nothing but its path inside the folder."""
    digest = hashlib.sha256(os.fsencode(path.as_posix())).digest()
    place = int.from_bytes(digest[:6], "big") / 2**48  # uniform on [0, 1)
    return next(split for split, end in _SHARES.items() if place < end)


def _picture(path: Path, size: int, channels: int, levels: int = 256) -> np.ndarray:
    """One picture as levels (C, size, size)."""
    try:
        with open_picture(path) as opened:
            opened.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size, in less time
            require_few_pixels(opened)
            image = ImageOps.exif_transpose(opened)
            if levels > 256:
                return _deep(image, opened.format, size, levels)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise ValueError("its pixels are 32-bit numbers without a known range")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB" if channels == 3 else "L")
            pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
    except Exception as error:  # a damaged picture makes Pillow raise almost anything
        why = str(error) or type(error).__name__
        raise ZooError(f"{path} can't be read as a picture ({why}). Repair it, or take it out of the folder.") from None
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)  # (H, W, C) -> (C, H, W)


def _deep(image: Image.Image, kind: str | None, size: int, levels: int) -> np.ndarray:
    """A gray picture of 16 bits as levels (1, size, size)."""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM"))):
        raise ValueError(f"it is no gray picture of 16 bits (Pillow's mode {image.mode}), as {levels} levels need it")
    pixels = np.asarray(image).astype(np.float32)  # Pillow resizes floats, and float32 holds 16 bits
    if pixels.max() >= levels:
        raise ValueError(f"it has values up to {pixels.max():.0f}, and 0 to {levels - 1} are needed")
    fitted = np.asarray(ImageOps.fit(Image.fromarray(pixels), (size, size), Image.Resampling.BICUBIC))
    return fitted.round().clip(0, levels - 1)[None]
