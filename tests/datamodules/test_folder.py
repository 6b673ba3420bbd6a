"""A folder of pictures of every form becomes three fixed splits, decoded once, and the folder itself is never written to."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolder
from zoo.errors import ZooError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder, count=60, classes=("cats", "dogs")):
    """Plain pictures whose red is their number, spread over sub-folders."""
    for number in range(count):
        path = folder / classes[number % len(classes)] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 5), (number, 10, 20)).save(path)
    return folder


def reds(data):
    return {name: sorted(part.x[:, 0, 0, 0].tolist()) for name, part in data.load().items()}


def test_pictures_become_three_splits_with_labels(tmp_path):
    data = ImageFolder(str(fill(tmp_path / "pets")), size=4)
    assert (data.spec.name, data.spec.shape, data.spec.levels) == ("folder[pets]", (3, 4, 4), 256)
    splits = data.load()
    assert sorted(red for part in reds(data).values() for red in part) == list(range(60))
    for part in splits.values():
        assert part.x.shape[1:] == (3, 4, 4)
        assert torch.equal(part.label, part.x[:, 0, 0, 0].long() % 2)
        assert (part.x[:, 1:] == torch.tensor([10, 20], dtype=torch.uint8).view(1, 2, 1, 1)).all()
    assert 36 <= len(splits["train"]) <= 56


def test_new_pictures_move_no_other(tmp_path):
    before = reds(ImageFolder(str(fill(tmp_path / "pets")), size=2))
    after = reds(ImageFolder(str(fill(tmp_path / "pets", 120)), size=2))
    assert {name: [red for red in part if red < 60] for name, part in after.items()} == before


def test_pictures_beside_sub_folders_have_no_labels(tmp_path):
    fill(tmp_path / "pets", classes=("", "dogs"))
    assert all(part.label is None for part in ImageFolder(str(tmp_path / "pets"), size=2).load().values())


def test_pictures_are_decoded_once_and_again_when_they_change(tmp_path, cache, monkeypatch):
    folder = fill(tmp_path / "pets")
    names = sorted(folder.rglob("*"))
    ImageFolder(str(folder), size=4).prepare_data()
    assert len(list(cache.iterdir())) == 1
    ImageFolder(str(folder), size=4, channels=1).prepare_data()
    assert len(list(cache.iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr("datamodules.folder._picture", None)
        splits = ImageFolder(str(folder), size=4).load()
    kept = {split: part.x.clone() for split, part in splits.items()}
    os.utime(names[-1], (1, 1))
    again = ImageFolder(str(folder), size=4).load()
    assert len(list(cache.iterdir())) == 3
    assert all(torch.equal(part.x, kept[split]) for split, part in again.items())
    assert sorted(folder.rglob("*")) == names


def pixels(folder, image, name="a.png", size=4, channels=3, **options):
    """What a picture becomes: (C, H, W)."""
    image.save(folder / name, **options)
    data = ImageFolder(str(folder), size=size, channels=channels)
    return data.load()["train"].x[0].numpy()


@pytest.fixture
def one_split(monkeypatch):
    """One picture for each split, so that a test can look at one."""

    def groups(self):
        every = [path.relative_to(self.root) for path in self.root.iterdir() if path.is_file()]
        return dict.fromkeys(("train", "val", "test"), every)

    monkeypatch.setattr(ImageFolder, "_groups", groups)


@pytest.mark.usefixtures("one_split")
class TestPicture:
    @pytest.mark.parametrize("ending", ["png", "JPG", "jpeg", "bmp", "gif", "webp", "tif", "ppm"])
    def test_every_form_is_read(self, tmp_path, ending):
        x = pixels(tmp_path, Image.new("RGB", (9, 9), (200, 100, 50)), f"a.{ending}")
        assert np.abs(x.astype(int) - np.array([200, 100, 50]).reshape(3, 1, 1)).max() <= 3

    def test_the_central_square_of_the_shorter_side_counts(self, tmp_path):
        stripes = np.zeros((4, 12, 3), np.uint8)
        stripes[:, 4:8] = np.arange(4)[None, :, None] + 1
        assert np.array_equal(pixels(tmp_path, Image.fromarray(stripes))[0, 0], [1, 2, 3, 4])

    def test_a_fine_pattern_is_averaged_and_not_sampled(self, tmp_path):
        board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
        x = pixels(tmp_path, Image.fromarray(board), channels=1)
        assert x.shape == (1, 4, 4)
        assert np.abs(x.astype(int) - 127).max() <= 8

    def test_a_photograph_is_turned_as_its_exif_says(self, tmp_path):
        half = np.zeros((32, 32, 3), np.uint8)
        half[:16] = 255
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        x = pixels(tmp_path, Image.fromarray(half), "a.jpg", exif=exif)
        assert x[:, 0].max() < 20
        assert x[:, -1].min() > 235

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
    def test_what_is_transparent_is_white(self, tmp_path, mode):
        image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
        options = {"transparency": 0} if mode == "P" else {}
        assert (pixels(tmp_path, image, **options) == 255).all()

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_sixteen_bits_are_scaled_and_not_clipped(self, tmp_path, ending):
        image = Image.fromarray(np.full((4, 4), 128 << 8, np.uint16))
        assert (pixels(tmp_path, image, f"a.{ending}", channels=1) == 128).all()

    def test_pixels_without_a_range_are_refused(self, tmp_path):
        with pytest.raises(ZooError, match=r"a\.tif .*without a known range"):
            pixels(tmp_path, Image.fromarray(np.zeros((4, 4), np.float32)), "a.tif")


@pytest.mark.parametrize("content", [b"", b"<html>", "half"])
def test_the_first_bad_file_is_named(tmp_path, cache, content):
    folder = fill(tmp_path / "pets")
    bad = sorted(folder.rglob("*.png"))[30]
    bad.write_bytes(bad.read_bytes()[:50] if content == "half" else content)
    with pytest.raises(ZooError, match=r"can't be read as a picture .*take it out of the folder") as caught:
        ImageFolder(str(folder)).prepare_data()
    assert str(bad) in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_broken_link_is_named(tmp_path):
    folder = fill(tmp_path / "pets")
    (folder / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(ZooError, match=r"gone\.png can't be read"):
        ImageFolder(str(folder)).prepare_data()


def test_hidden_files_are_left_out(tmp_path):
    folder = fill(tmp_path / "pets")
    (folder / ".thumbnails").mkdir()
    for name in ("._000.png", ".thumbnails/a.png", "notes.txt"):
        (folder / name).write_bytes(b"no picture")
    assert sum(map(len, ImageFolder(str(folder), size=2).load().values())) == 60


def test_a_folder_without_enough_pictures_is_said(tmp_path):
    with pytest.raises(ZooError, match=r"no picture in .*png"):
        ImageFolder(str(tmp_path)).load()
    fill(tmp_path, 2)
    with pytest.raises(ZooError, match=r"2 pictures in .* too few.*\n.*100 or more"):
        ImageFolder(str(tmp_path)).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"--data\.root FOLDER"),
        ({"root": "/no/such/folder"}, "is not a folder"),
        ({"root": str(Path(__file__))}, "is not a folder"),
        ({"root": ".", "size": 0}, "size 0"),
        ({"root": ".", "channels": 2}, "channels 2"),
    ],
)
def test_options_are_checked_at_once(options, message):
    with pytest.raises(ZooError, match=message):
        ImageFolder(**options)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, cache, monkeypatch):
    folder = fill(tmp_path / "pets")
    cache.write_bytes(b"")
    with pytest.raises(ZooError, match="ZOO_CACHE"):
        ImageFolder(str(folder)).load()
    cache.unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ZooError, match=r"no room.*ZOO_CACHE"):
        ImageFolder(str(folder)).load()


def test_a_damaged_cache_is_named(tmp_path, cache):
    folder = fill(tmp_path / "pets")
    ImageFolder(str(folder)).load()
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(ZooError, match=r"folder-.*\.npy can't be read.*remove"):
        ImageFolder(str(folder)).load()


def deep(folder, values, count=60, ending="png"):
    """Gray pictures of 16 bits, 6x5, each of the values in turn, and of which none fits into 8 bits."""
    folder.mkdir()
    for number in range(count):
        pixels = np.full((5, 6), values[number % len(values)], np.uint16)
        Image.fromarray(pixels).save(folder / f"{number:03}.{ending}")
    return folder


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
@pytest.mark.parametrize(("levels", "dtype"), [(4096, torch.int16), (2**16, torch.int32)])
def test_16_bits_keep_their_levels(tmp_path, levels, dtype, ending):
    values = [0, 1, 255, 256, 1000, levels - 1]
    folder = deep(tmp_path / "scans", values, ending=ending)
    for _ in range(2):  # decoded, and then found
        data = ImageFolder(str(folder), size=4, channels=1, levels=levels, batch_size=7)
        assert (data.spec.name, data.spec.levels) == (f"folder[scans,{levels} levels]", levels)
        data.setup()
        found = torch.cat([part.x for part in data.splits.values()])
        assert found.shape == (60, 1, 4, 4)
        assert found.flatten(1).unique(dim=0)[:, 0].tolist() == values
        batch = next(iter(data.train_dataloader()))
        assert batch.x.dtype == data.spec.dtype == dtype
    eight = ImageFolder(str(folder), size=4, channels=1) if ending != "pgm" else None
    if eight is not None:  # as before, the upper 8 bits
        assert {int(x) for part in eight.load().values() for x in part.x.unique()} == {value >> 8 for value in values}


def test_16_bits_are_resized_within_their_levels(tmp_path):
    """A bicubic curve runs over at an edge; here it is cut off at the ends, and does not wrap around."""
    folder = deep(tmp_path / "scans", [0])
    pixels = np.zeros((40, 40), np.uint16)
    pixels[:, 20:] = 4095
    Image.fromarray(pixels).save(folder / "edge.png")
    x = torch.cat([part.x for part in ImageFolder(str(folder), size=16, channels=1, levels=4096).load().values()])
    edge = x[x.flatten(1).amax(1) > 0].squeeze()
    assert (edge[:, :7] == 0).all()
    assert (edge[:, -7:] == 4095).all()
    assert (edge.diff(dim=1) >= 0).all()


def test_pictures_of_other_depths_are_named(tmp_path):
    folder = deep(tmp_path / "scans", [4096])
    with pytest.raises(ZooError, match=r"\.png can't be read .*up to 4096, and 0 to 4095 are needed"):
        ImageFolder(str(folder), size=4, channels=1, levels=4096).load()
    Image.new("L", (6, 6)).save(folder / "zeros.png")
    with pytest.raises(ZooError, match=r"zeros.png .*no gray picture of 16 bits .*mode L"):
        ImageFolder(str(folder), size=4, channels=1, levels=2**16).load()
    for options in ({"levels": 4096}, {"levels": 255, "channels": 1}, {"levels": 2**16 + 1, "channels": 1}):
        with pytest.raises(ZooError, match=f"levels {options['levels']} of"):
            ImageFolder(str(folder), **options)
