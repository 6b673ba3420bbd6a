"""Heat maps and animations."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_callbacks import Autoencoder, Shelf, fit

from callbacks import AnimatedTraversals, Interpolations, LatentTraversals, Reconstructions
from datamodules import Digits
from zoo.evaluation.latents import moved_latents
from zoo.models import GAN, VAE
from zoo.plots import heat_map, save_gif
from zoo.spec import Batch, DataSpec


def test_a_heat_map_is_darker_where_the_number_is_larger():
    matrix = torch.zeros(10, 5)
    matrix[3, 2] = 1.5
    image = heat_map(matrix, [f"z{d}" for d in range(10)], ["shape", "scale", "orientation", "posX", "posY"], "nats")
    pixels = np.asarray(image.convert("RGB")).astype(int)
    dark = np.argwhere((pixels[..., 2] - pixels[..., 0] > 60) & (pixels[..., 0] < 60))  # dark blue
    (top, left), (bottom, right) = dark.min(0), dark.max(0)
    assert right - left > 40 and bottom - top > 20, "one cell, large enough to hold a number"
    center = (top + bottom) / 2 / image.height, (left + right) / 2 / image.width
    assert center == pytest.approx((0.40, 0.58), abs=0.12), "the fourth row, the third column"
    white = (pixels[top:bottom, left:right] > 200).all(-1)
    assert white.any(), "the number is readable on it"


@pytest.mark.parametrize("matrix", [torch.zeros(2, 3), torch.tensor([[float("nan"), 1, 2], [3, 4, 5]])])
def test_any_matrix_is_drawn(matrix):
    assert min(heat_map(matrix, ["a", "b"], ["x", "y", "z"], "t").size) > 150


def test_an_animation_loops(tmp_path):
    frames = [Image.fromarray(np.full((20, 30), 50 * i, np.uint8)) for i in range(5)]
    save_gif(frames, tmp_path / "x.gif", seconds=0.2)
    with Image.open(tmp_path / "x.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"], gif.info["duration"]) == (5, (30, 20), 0, 200)


def test_traversals_move_one_latent_each():
    z = torch.randn(6, 4) * torch.tensor([1.0, 3.0, 0.1, 2.0])
    moved = moved_latents(z, examples=2, steps=5, reach=2.0, latents=3)
    assert moved.shape == (3, 2, 5, 4)
    for row, latent in enumerate((0, 1, 3)):  # in their order, without the one that hardly varies
        for example in range(2):
            assert moved[row, example, :, latent].tolist() == [-2, -1, 0, 1, 2]
            others = [d for d in range(4) if d != latent]
            assert torch.equal(moved[row, example][:, others], z[example, others].expand(5, 3))


def test_animated_traversals_go_there_and_back(tmp_path):
    class Video(Shelf):
        def log_video(self, key, videos, step=None, **options):
            self.images.append((key, videos, step, options))

    data, shelf = Digits(), Video()
    callback = AnimatedTraversals(examples=4, steps=6)
    fit(Autoencoder(data.spec), data, tmp_path / "yes", callback, LatentTraversals(), steps=21, logger=shelf)
    path = tmp_path / "yes/pictures/traversals_animated.gif"
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        assert gif.n_frames <= 10  # equal frames that follow each other are one
        width, height = gif.size
        assert width / height == pytest.approx((9 * 4 + 1) / (9 * 3 + 1))
    numbered = path.with_name("traversals_animated-0000021.gif")
    assert numbered.read_bytes() == path.read_bytes()
    assert ("traversals_animated", [str(numbered)], 21, {"format": ["gif"]}) in shelf.images
    fit(GAN(data.spec), data, tmp_path / "no", callback, steps=21)
    assert not (tmp_path / "no/pictures").exists()


def test_the_way_back_mirrors_the_way_there(monkeypatch):
    shown = iter(range(100))
    monkeypatch.setattr("callbacks.latents.picture", lambda x, spec, columns: next(shown))
    data = Digits()
    model, callback = Autoencoder(data.spec), AnimatedTraversals(steps=4)
    data.setup()
    callback.held_out = next(iter(data.val_dataloader()))
    assert callback.draw(None, model) == [0, 1, 2, 3, 2, 1]


@pytest.mark.parametrize("callback", [LatentTraversals(), AnimatedTraversals(steps=3), Reconstructions(), Interpolations()])
def test_pictures_of_binary_data_show_probabilities(callback):
    """Rounded, the faint means of a model that has hardly been trained would be black."""
    spec = DataSpec("binary", (1, 4, 4), levels=2)
    model = VAE(spec, network="mlp", hidden=8, latent_dim=3)
    torch.nn.init.constant_(model.decoder[-1].bias, -2.0)
    callback.held_out = Batch(torch.randint(2, (64, 1, 4, 4), dtype=torch.uint8))
    drawn = callback.draw(None, model)
    pixels = np.asarray(drawn[0] if isinstance(drawn, list) else drawn)
    assert not {0, 64, 255} >= set(pixels.ravel().tolist())
    assert model.decode(torch.randn(5, 3)).dtype == torch.uint8
