"""Data with known factors: subsets keep their place in the whole, variants are what their formulas say, scores take them."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import BackgroundDSprites, ColorDSprites, DSprites, NoisyDSprites, ScreamDSprites
from zoo.errors import ZooError
from zoo.metrics import beta_vae_score, factor_vae_score

FEW = {"shape": [2, 0], "scale": [5], "orientation": [0, 10, 20, 30], "posX": list(range(8, 16))}


def test_a_subset_holds_the_chosen_values_and_numbers_them_anew():
    data = DSprites(factors=FEW)
    data.setup()
    spec = data.spec
    assert spec.name == "dsprites[shape=0+2,scale=5,orientation=0+10+20+30,posX=8-15]"
    assert (spec.factor_names, spec.factor_sizes) == (("shape", "orientation", "posX", "posY"), (2, 4, 8, 32))
    assert (data.factor_names, data.factor_sizes, data.count) == (spec.factor_names, spec.factor_sizes, 2048)
    factors = torch.cat([part.factors for part in data.splits.values()]).long()
    assert factors.unique(dim=0).shape == (2048, 4)
    assert factors.amax(0).tolist() == [1, 3, 7, 31]
    last = DSprites().render(torch.tensor([[2, 5, 30, 15, 31]]))
    assert torch.equal(data.render(torch.tensor([[1, 3, 7, 31]])), last)
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch.x, data.render(batch.factors))


def test_a_subset_leaves_every_image_in_its_split():
    whole = DSprites().split_numbers()
    data = DSprites(factors=FEW)
    part = data.split_numbers()
    kept = np.arange(737_280).reshape(tuple(DSprites.grid.values()))[[0, 2]][:, [5]][:, :, [0, 10, 20, 30]][..., 8:16, :]
    for split in whole:
        assert np.array_equal(np.intersect1d(whole[split], kept), np.sort(part[split]))
    fewer = DSprites(factors=FEW, size=100).split_numbers(100)
    assert sum(map(len, fewer.values())) == 100
    for split, numbers in fewer.items():
        assert np.array_equal(numbers, part[split][: len(numbers)])
    numbers = part["train"]
    assert np.array_equal(data.numbers(data.factors_of(numbers)), numbers)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"color": [0]}, "no factor 'color' in dsprites: it has shape, scale"),
        ({"shape": []}, r"shape: \[\] can't be kept"),
        ({"shape": [3]}, r"shape: \[3\] .* 0 to 2"),
        ({"scale": [-1, 2]}, r"scale: \[-1, 2\]"),
        ({"posX": [1, 1]}, r"posX: \[1, 1\] .*once each"),
        ({name: [0] for name in DSprites.grid} | {"shape": [0, 1]}, "images for training, .*: keep more"),
        ({name: [0] for name in DSprites.grid}, "images for training, .*: keep more"),
    ],
)
def test_a_subset_that_cannot_be_is_refused(factors, message):
    with pytest.raises(ZooError, match=message) as caught:
        DSprites(factors=factors).load()
    assert str(caught.value).count("\n") < 2


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (torch.zeros(3, 5, dtype=torch.int64), r"\(n, 4\): shape, orientation, posX, posY"),
        (torch.zeros(3, 4), "float32"),
        (torch.tensor([[0, 4, 0, 0]]), "orientation goes from 4 to 4: 0 to 3"),
        (torch.tensor([[0, 0, -1, 0]]), "posX goes from -1"),
    ],
)
def test_factors_that_are_not_there_are_refused(factors, message):
    with pytest.raises(ZooError, match=message):
        DSprites(factors=FEW).render(factors)


def moments(x):
    """Where the sprite is, and how large: right of, below, number of pixels; (n, 3)."""
    light = (x.amax(1) > 127 if x.shape[1] == 3 else x[:, 0]).double()
    rows, columns, area = light.sum(2), light.sum(1), light.sum((1, 2))
    at = torch.arange(64.0, dtype=torch.float64)
    return torch.stack([columns @ at / area, rows @ at / area, area], dim=1)


@pytest.mark.parametrize(("kind", "cached"), [(DSprites, True), (ColorDSprites, False)])
def test_scores_that_draw_their_own_data_take_the_data_as_they_are(kind, cached):
    """Codes that are the center and the area tell three factors apart, whatever the color."""
    data = kind(factors={"shape": [0], "orientation": [0], "posX": [0, 10, 20, 30], "posY": [0, 10, 20, 30]}, size=10)
    assert data.factor_names == ("scale", "posX", "posY")
    assert data.deterministic is cached
    seen = []

    def encode(x):
        seen.append(len(x))
        assert (x.dtype, x.shape[1:]) == (torch.uint8, data.spec.shape)
        return moments(x)

    options = {"num_train": 60, "num_eval": 60, "batch_size": 8}
    assert factor_vae_score(encode, data, variance_points=200, **options)["eval_accuracy"] == 1
    assert (sum(seen) <= 96) is cached
    assert beta_vae_score(encode, data, **options)["eval_accuracy"] > 0.9


def test_colors_are_those_of_the_formula():
    data = ColorDSprites(size=2000, batch_size=1600)
    data.setup()
    (batch,) = data.train_dataloader()
    sprites = DSprites().render(batch.factors)
    rgb = batch.x.amax((2, 3))
    assert torch.equal(batch.x, sprites * rgb[:, :, None, None])
    assert (rgb.min(), rgb.max()) == (128, 255)
    assert (rgb.double().mean(0) / 255).tolist() == pytest.approx([0.75] * 3, abs=4 * 0.5 / 12**0.5 / 1600**0.5)
    assert (torch.corrcoef(rgb.T.double()) - torch.eye(3)).abs().max() < 0.1


def test_noise_is_that_of_the_formula():
    data = NoisyDSprites(size=100, batch_size=80)
    data.setup()
    (batch,) = data.train_dataloader()
    sprites = DSprites().render(batch.factors).expand_as(batch.x) == 1
    assert (batch.x[sprites] == 255).all()
    noise = batch.x[~sprites].double() / 255
    deviation = 12**-0.5
    assert noise.mean().item() == pytest.approx(0.5, abs=4 * deviation / len(noise) ** 0.5)
    assert noise.std().item() == pytest.approx(deviation, rel=0.01)
    assert torch.bincount(batch.x[~sprites].long(), minlength=256).min() > 0


@pytest.fixture
def gradient(tmp_path):
    """A picture whose pixels say where they are: red is twice the column, green twice the row, blue 200."""
    rows, columns = np.mgrid[:80, :100].astype(np.uint8)
    path = tmp_path / "gradient.png"
    Image.fromarray(np.stack([2 * columns, 2 * rows, np.full_like(rows, 200)], axis=2)).save(path)
    return path


@pytest.mark.parametrize("kind", [BackgroundDSprites, ScreamDSprites])
def test_backgrounds_are_crops_of_the_picture_and_sprites_invert_them(gradient, kind):
    data = kind(str(gradient), size=500, batch_size=400)
    data.setup()
    assert data.spec.name == ("scream_dsprites[500]" if kind is ScreamDSprites else "background_dsprites[gradient,500]")
    (batch,) = data.train_dataloader()
    sprites = DSprites().render(batch.factors) == 1
    b = torch.where(sprites, 255 - batch.x.double(), batch.x.double())  # (crop + tint) / 2, in levels
    corner = b[:, :, :1, :1]
    steps = torch.arange(64)
    assert ((b[:, 0] - corner[:, 0]) - steps).abs().max() <= 1
    assert ((b[:, 1] - corner[:, 1]) - steps[:, None]).abs().max() <= 1
    assert (b[:, 2] - corner[:, 2]).abs().max() <= 1
    tint = (2 * b[:, 2, 0, 0] - 200) / 255
    assert -0.01 < tint.min() < 0.02 < 0.98 < tint.max() < 1.01
    assert tint.mean().item() == pytest.approx(0.5, abs=4 * 12**-0.5 / 20)


def test_crops_begin_everywhere_but_at_the_last_row_and_column(gradient, monkeypatch):
    data = BackgroundDSprites(str(gradient), size=10)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.zeros(size))  # no tint
    x = data.paint(torch.zeros(1000, 1, 64, 64, dtype=torch.uint8))
    for channel, size in ((0, 100), (1, 80)):
        assert x[:, channel, 0, 0].unique().tolist() == list(range(size - 64))


@pytest.mark.parametrize("name", ["color_dsprites", "noisy_dsprites", "background_dsprites"])
def test_variants_are_fresh_at_each_access_and_seeded(name):
    from zoo.registry import DATA, find_class

    def batches(seed):
        data = find_class(DATA[name].path)(size=20, batch_size=16, seed=seed, factors={"shape": [1]})
        data.setup()
        train, val = data.train_dataloader(), data.val_dataloader()
        return data, [next(iter(train)) for _ in range(2)], [next(iter(val)) for _ in range(2)]

    data, (one, two), (val, again) = batches(0)
    order, other = (batch.factors.sum(1).argsort() for batch in (one, two))
    assert not torch.equal(one.x[order], two.x[other])
    assert torch.equal(val.x, again.x)
    assert torch.equal(one.x, batches(0)[1][0].x)
    assert not torch.equal(val.x, batches(1)[2][0].x)
    torch.manual_seed(3)
    first = data.render(val.factors)
    assert not torch.equal(first, data.render(val.factors))
    torch.manual_seed(3)
    assert torch.equal(first, data.render(val.factors))


def test_what_is_no_background_is_refused(tmp_path):
    with pytest.raises(ZooError, match=r"--data\.image FILE.\n.*background_dsprites"):
        ScreamDSprites()
    with pytest.raises(ZooError, match=r"nothing\.png is not there"):
        BackgroundDSprites(str(tmp_path / "nothing.png"))
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ZooError, match=r"text\.png can't be read"):
        BackgroundDSprites(str(tmp_path / "text.png"))
    Image.new("RGB", (300, 64)).save(tmp_path / "narrow.png")
    with pytest.raises(ZooError, match=r"narrow\.png: of 300x64 pixels no 64x64"):
        BackgroundDSprites(str(tmp_path / "narrow.png"))
