"""Pictures, the average of weights, the progress bar, the guard."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from scipy import ndimage
from torch import nn

import zoo
from callbacks import (
    ExponentialMovingAverage,
    FinalValidation,
    Interpolations,
    LatentTraversals,
    MetricsProgressBar,
    NonFiniteGuard,
    Reconstructions,
    SampleGrid,
    TemperatureSamples,
)
from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.models.base import GenerativeModule
from zoo.models.gan import GAN
from zoo.models.vae import VAE
from zoo.plots import picture
from zoo.spec import DataSpec


class Autoencoder(GenerativeModule):
    """The smallest model with everything that pictures ask for: one linear layer there and one back."""

    latent_dim = 3

    def __init__(self, spec, scale: float = 1.0):
        super().__init__(spec)
        self.there, self.back = nn.Linear(self.spec.dims, 3), nn.Linear(3, self.spec.dims)
        self.scale = scale

    def encode(self, x):
        return self.there(self.spec.to_signed(x).flatten(1))

    def decode(self, z):
        return self.spec.from_signed(self.back(z).view(-1, *self.spec.shape))

    def objective(self, batch):
        x = self.spec.to_signed(batch.x)
        loss = self.scale * (self.back(self.encode(batch.x)).view_as(x) - x).square().mean()
        return loss, {}

    def sample(self, n):
        with torch.no_grad():
            return self.decode(torch.randn(n, 3, device=self.device))


def fit(model, data, folder, *callbacks, steps=4, logger=False, ckpt_path=None, **options) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        default_root_dir=folder,
        logger=logger,
        enable_progress_bar=any(isinstance(callback, MetricsProgressBar) for callback in callbacks),
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
    return trainer


class Shelf(Logger):
    """Keeps what it is given."""

    name, version = "shelf", ""

    def __init__(self):
        super().__init__()
        self.images = []

    def log_image(self, key, images, step=None):
        self.images.append((key, images[0].size, step))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *args, **kwargs):
        pass


def test_samples_go_to_the_run_folder_and_to_loggers(tmp_path):
    data, shelf = Digits(), Shelf()
    fit(GAN(data.spec), data, tmp_path, SampleGrid(n=9), steps=3, logger=shelf)
    newest = Image.open(tmp_path / "pictures" / "samples.png")
    assert newest.mode == "L"
    assert min(newest.size) >= 480
    assert (tmp_path / "pictures" / "samples-0000003.png").read_bytes() == (tmp_path / "pictures/samples.png").read_bytes()
    assert shelf.images == [("samples", newest.size, 3)]


def test_pictures_do_not_change_the_training(tmp_path):
    weights = []
    for callbacks in ((), (SampleGrid(), Reconstructions())):
        data = Digits(seed=0)
        torch.manual_seed(0)
        model = GAN(data.spec)
        fit(model, data, tmp_path, *callbacks, steps=4, val_check_interval=1)
        weights.append(model.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_vectors_are_plotted(tmp_path):
    """In two dimensions beside the density, which toy data have; on the line below it."""
    for density, size in (("ring", (1000, 500)), ("mixture", (500, 500))):
        data = Toy(density, size=500)
        fit(GAN(data.spec), data, tmp_path / density, SampleGrid(), steps=1)
        assert Image.open(tmp_path / density / "pictures/samples.png").size == size


def test_a_density_is_drawn_as_far_as_it_reaches():
    """Beside samples of a single mode, as those of a GAN that collapsed, all eight are seen."""
    data = Toy("ring")
    collapsed = data.means[:1].expand(50, 2)
    image = np.asarray(picture(collapsed, data.spec, density=data.distribution).convert("L")).astype(int)
    counts = [ndimage.label(half < 200)[1] for half in (image[60:420, 70:480], image[60:420, 520:980])]
    assert counts[1] - counts[0] >= 7, counts


def test_pictures_of_models_with_a_likelihood_are_of_means_and_say_so(tmp_path, monkeypatch):
    data, shown = Digits(), []

    def picture(x, spec, **options):
        shown.append((x, options))
        return Image.new("L", (9, 9))

    monkeypatch.setattr("callbacks.sample_grid.picture", picture)
    model = VAE(data.spec, hidden=16, network="mlp", likelihood="discretized_logistic")
    fit(model, data, tmp_path, SampleGrid(n=3), SampleGrid(n=3, mean=False, name="draws"), steps=21)
    (means, said), (draws, nothing) = shown[-2:]
    assert said == {"title": "means of p(x|z), z drawn from the prior"} and nothing == {}
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(means, model.decode_mean(model.prior.sample(3)))
    assert not torch.equal(means, draws)


def test_a_title_is_above_the_images():
    spec = DataSpec("pixels", (1, 4, 4), 2)
    plain, titled = (picture(torch.ones(4, 1, 4, 4, dtype=torch.uint8), spec, title=title) for title in ("", "means"))
    assert titled.size == (plain.width, plain.height + 24)
    assert titled.crop((0, 24, *titled.size)).tobytes() == plain.tobytes()
    assert np.asarray(titled.crop((0, 0, titled.width, 24))).min() < 100


def test_reconstructions_are_drawn_where_a_model_reconstructs(tmp_path):
    data = Digits()
    fit(Autoencoder(data.spec), data, tmp_path / "yes", Reconstructions(n=8, columns=4), steps=21)
    assert (tmp_path / "yes/pictures/reconstructions.png").exists()
    fit(GAN(data.spec), data, tmp_path / "no", Reconstructions(), steps=21)
    assert not (tmp_path / "no/pictures").exists()


@pytest.mark.parametrize(
    ("callback", "cells"),
    [
        (LatentTraversals(columns=5), 3 * 5),
        (Interpolations(n=4, columns=6), 4 * 6),
        (TemperatureSamples(temperatures=(0.5, 1.0), n=7), None),
    ],
)
def test_latents_are_drawn_where_a_model_has_them(tmp_path, callback, cells):
    """The pictures' sizes say how many images are in them; an autoencoder without temperature has no row of it."""
    data = Digits()
    fit(Autoencoder(data.spec), data, tmp_path / "yes", callback, steps=21)
    path = tmp_path / "yes/pictures" / f"{callback.name}.png"
    assert path.exists() == (cells is not None)
    if cells:
        width, height = Image.open(path).size
        columns = callback.columns
        assert width / height == pytest.approx((9 * columns + 1) / (9 * cells // columns + 1))
    fit(GAN(data.spec), data, tmp_path / "no", callback, steps=21)
    assert not (tmp_path / "no/pictures").exists()


def test_the_ends_of_an_interpolation_are_the_reconstructions(tmp_path, monkeypatch):
    data, shown = Digits(), []
    monkeypatch.setattr("callbacks.latents.picture", lambda x, spec, columns: shown.append(x) or Image.new("L", (9, 9)))
    model = Autoencoder(data.spec)
    callback = Interpolations(n=3, columns=4)
    fit(model, data, tmp_path, callback, steps=21)
    x = callback.held_out.x
    rows = shown[-1].unflatten(0, (3, 4))
    with torch.no_grad():
        expected = model.decode(model.encode(x[:6]))
    assert torch.equal(rows[:, 0], expected[:3])
    assert torch.equal(rows[:, -1], expected[3:])


def test_temperatures_share_their_noise(tmp_path):
    data = Digits()
    model = VAE(data.spec, hidden=16, network="mlp")
    seen = []
    monkeypatched = model.prior.sample
    model.prior.sample = lambda n, temperature: seen.append(monkeypatched(n, temperature)) or seen[-1]
    fit(model, data, tmp_path, TemperatureSamples(temperatures=(0.5, 1.0), n=7), steps=21)
    torch.testing.assert_close(2 * seen[-2], seen[-1])
    assert (tmp_path / "pictures/temperatures.png").exists()


def test_a_grid_shows_every_image_where_it_should_be():
    spec = DataSpec("one pixel", (1, 1, 1), 256)
    x = torch.tensor([0, 50, 100, 150, 200, 250], dtype=torch.uint8).view(-1, 1, 1, 1)
    image = picture(x, spec, columns=3)
    scale = image.width // 7  # three pixels and four gaps
    seen = [image.getpixel((int((2 * c + 1.5) * scale), int((2 * r + 1.5) * scale))) for r in (0, 1) for c in (0, 1, 2)]
    assert seen == [0, 50, 100, 150, 200, 250]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_can_be_shown(channels):
    x = torch.zeros(5, channels, 4, 4, dtype=torch.uint8)
    assert picture(x, DataSpec("channels", (channels, 4, 4), 2)).mode == ("RGB" if channels == 3 else "L")


class Recorder(ExponentialMovingAverage):
    """Follows the average by its definition, in float64."""

    def on_fit_start(self, trainer, pl_module):
        super().on_fit_start(trainer, pl_module)
        self.expected = {k: p.detach().double().clone() for k, p in pl_module.generator.named_parameters()}

    def on_train_batch_end(self, trainer, pl_module, *args):
        super().on_train_batch_end(trainer, pl_module, *args)
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, p in pl_module.generator.named_parameters():
            self.expected[key] = decay * self.expected[key] + (1 - decay) * p.detach().double()


def test_average_is_what_it_says_and_is_updated_at_every_batch(tmp_path):
    data, average = Digits(), Recorder(decay=0.5)
    fit(GAN(data.spec, lr=0.01), data, tmp_path, average, steps=12)
    assert average.updates == 12
    for key, p in average.average.named_parameters():
        torch.testing.assert_close(p.double(), average.expected[key], rtol=1e-5, atol=1e-6)


def test_the_average_is_validated_and_the_trained_weights_come_back(tmp_path):
    data, average = Digits(), ExponentialMovingAverage(decay=0.9)
    model = GAN(data.spec, lr=0.01)
    seen = []

    class Watch(SampleGrid):
        def on_validation_epoch_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                seen.append(copy.deepcopy(pl_module.generator.state_dict()))

        def on_train_batch_start(self, trainer, pl_module, *args):
            assert next(pl_module.generator.parameters()).requires_grad

        def on_train_end(self, trainer, pl_module):
            pass

    fit(model, data, tmp_path, average, Watch(), steps=3, val_check_interval=1)
    assert len(seen) == 3
    torch.testing.assert_close(seen[-1], average.average.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model.generator.state_dict(), seen[-1], rtol=0, atol=0)


def test_a_loaded_model_has_the_average(tmp_path):
    data, average = Digits(), ExponentialMovingAverage(decay=0.9)
    trainer = fit(GAN(data.spec, lr=0.01), data, tmp_path, average, steps=5)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    loaded = zoo.load(tmp_path / "x.ckpt")
    torch.testing.assert_close(loaded.generator.state_dict(), average.average.state_dict(), rtol=0, atol=0)


def weights_and_average(trainer, folder) -> dict:
    path = folder / "state.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    return {part: checkpoint[part] for part in ("state_dict", "optimizer_states", "zoo_average")}


@pytest.mark.parametrize("from_file", [True, False])
def test_a_training_from_python_goes_on_from_the_trained_weights(tmp_path, from_file):
    """After training the model has the average: a checkpoint written then, and the Trainer itself, go on all the same."""
    data, whole = Digits(seed=0), ExponentialMovingAverage(decay=0.9)
    torch.manual_seed(0)
    expected = weights_and_average(fit(GAN(data.spec, lr=0.01), data, tmp_path, whole, steps=8), tmp_path)

    data, average = Digits(seed=0), ExponentialMovingAverage(decay=0.9)
    torch.manual_seed(0)
    model = GAN(data.spec, lr=0.01)
    trainer = fit(model, data, tmp_path, average, steps=5)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.testing.assert_close(model.generator.state_dict(), average.average.state_dict(), rtol=0, atol=0)
    half = torch.load(tmp_path / "half.ckpt", weights_only=True)
    moved = [k for k, w in half["zoo_average"]["weights"].items() if not torch.equal(w, half["state_dict"][k])]
    assert moved, "the file has the trained weights and the average"
    torch.testing.assert_close(zoo.load(tmp_path / "half.ckpt").generator.state_dict(), average.average.state_dict())
    if from_file:
        model, average = GAN(data.spec, lr=0.01), ExponentialMovingAverage(decay=0.9)
        trainer = fit(model, Digits(seed=0), tmp_path, average, steps=8, ckpt_path=tmp_path / "half.ckpt")
        torch.testing.assert_close(weights_and_average(trainer, tmp_path), expected, rtol=0, atol=0)
    else:
        trainer.fit_loop.epoch_loop.max_steps = 8
        trainer.fit(model, data)
        assert average.updates == 8
        trained = average._trained
        assert any(not torch.equal(w, average.average.state_dict()[k]) for k, w in trained.items())


def test_an_average_is_not_taken_for_another_model(tmp_path):
    """The same callback with another model, or with one that was given other weights, starts from those."""
    data, average = Digits(seed=0), ExponentialMovingAverage(decay=0.9)
    fit(GAN(data.spec, lr=0.01), data, tmp_path, average, steps=3)
    other = GAN(data.spec, lr=0.01)
    start = copy.deepcopy(other.generator.state_dict())
    seen = []

    class Watch(SampleGrid):
        def on_train_start(self, trainer, pl_module):
            seen.append((copy.deepcopy(pl_module.generator.state_dict()), average.updates))

    fit(other, data, tmp_path, average, Watch(), steps=2)
    torch.testing.assert_close(seen[0][0], start, rtol=0, atol=0)
    assert (seen[0][1], average.updates) == (0, 2)


@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_epoch_end", "on_validation_end", "on_train_end"])
def test_a_checkpoint_has_both_whenever_it_is_written(tmp_path, hook):
    data, average = Digits(seed=0), ExponentialMovingAverage(decay=0.9)
    saved, trained = tmp_path / "x.ckpt", []

    def save(self, trainer, pl_module, *args):
        if not trainer.sanity_checking:
            trainer.save_checkpoint(saved)

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            trained.append(copy.deepcopy(pl_module.generator.state_dict()))

    setattr(Watch, hook, save)
    fit(GAN(data.spec, lr=0.01), data, tmp_path, average, Watch(), steps=3, val_check_interval=3)
    checkpoint = torch.load(saved, weights_only=True)
    for name, weight in trained[-1].items():
        assert torch.equal(checkpoint["state_dict"][f"generator.{name}"], weight)
    averaged = {f"generator.{name}": weight for name, weight in average.average.state_dict().items()}
    torch.testing.assert_close(checkpoint["zoo_average"]["weights"], averaged, rtol=0, atol=0)


def test_an_interrupted_validation_leaves_the_trained_weights(tmp_path):
    data, average, model = Digits(seed=0), ExponentialMovingAverage(decay=0.9), GAN(Digits().spec)
    generator = model.generator

    class Breaks(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        fit(model, data, tmp_path, average, Breaks(), steps=3, val_check_interval=3)
    assert model.generator is generator


def test_a_validation_by_itself_is_of_the_model_as_it_is(tmp_path):
    data, average = Digits(seed=0), ExponentialMovingAverage(decay=0.9)
    model = GAN(data.spec, lr=0.01)
    trainer = fit(model, data, tmp_path, average, steps=3)
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.zero_()
    seen = []
    model.on_validation_epoch_end = lambda: seen.append(sum(float(w.abs().sum()) for w in model.generator.parameters()))
    trainer.validate(model, data, verbose=False)
    assert seen == [0]


def test_wrong_averages_are_refused(tmp_path):
    with pytest.raises(ZooError, match="decay 1"):
        ExponentialMovingAverage(decay=1)
    data = Digits()
    with pytest.raises(ZooError, match=r"no submodule 'encoder' to average; it has generator, discriminator"):
        fit(GAN(data.spec), data, tmp_path, ExponentialMovingAverage("encoder"))


class Blows(Autoencoder):
    """Loss NaN from the fourth batch on."""

    def objective(self, batch):
        loss, terms = super().objective(batch)
        return (loss * float("nan") if self.training and self.global_step >= 3 else loss), terms


def test_guard_names_the_first_bad_batch_though_it_looks_later(tmp_path):
    data = Digits()
    with pytest.raises(ZooError, match="not finite at batch 4;"):
        fit(Blows(data.spec), data, tmp_path, NonFiniteGuard(every_n_batches=10), steps=40)


def test_guard_lets_no_bad_checkpoint_be_written(tmp_path):
    class Saves(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "bad.ckpt")
                pytest.fail("it was written")

    data = Digits()
    with pytest.raises(ZooError, match="not finite at batch 4;"):
        fit(Blows(data.spec), data, tmp_path, NonFiniteGuard(every_n_batches=1000), Saves(), steps=9)
    assert not (tmp_path / "bad.ckpt").exists()


def test_guard_looks_at_the_last_batch_too(tmp_path):
    data = Digits()
    with pytest.raises(ZooError, match=r"not finite at batch 4; training stopped\. There is no checkpoint from before"):
        fit(Blows(data.spec), data, tmp_path, NonFiniteGuard(every_n_batches=1000), steps=4)


class BadGradient(Autoencoder):
    """A finite loss whose gradient is NaN at the fourth batch: that of sqrt at 0, times 0."""

    def objective(self, batch):
        loss, terms = super().objective(batch)
        weight = next(self.parameters())
        return (loss + (0 * weight).sum().abs().sqrt() if self.training and self.global_step == 3 else loss), terms


@pytest.mark.parametrize("averaged", [False, True])
def test_weights_that_are_not_finite_are_not_written(tmp_path, averaged):
    """Of the batch before there is a checkpoint, which the message names: it is there, and sound."""
    data = Digits()
    every = ModelCheckpoint(tmp_path / "kept", "last", every_n_train_steps=1, enable_version_counter=False)
    average = [ExponentialMovingAverage("there")] if averaged else []
    with pytest.raises(ZooError, match=r"the weights are not finite at batch 4 \(.*\), though the loss is") as caught:
        fit(BadGradient(data.spec), data, tmp_path, *average, NonFiniteGuard(), every, steps=9)
    kept = tmp_path / "kept" / "last.ckpt"
    assert str(caught.value).endswith(f"go on from before with --ckpt_path {kept}.")
    contents = torch.load(kept, weights_only=True)
    assert contents["global_step"] == 3
    assert all(weight.isfinite().all() for weight in contents["state_dict"].values())


def test_a_bad_average_is_noticed(tmp_path):
    """Also where the average is stored after the guard has looked."""

    class Spoils(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 3:
                next(average.average.parameters()).data.fill_(float("inf"))

    average, data = ExponentialMovingAverage("there"), Digits()
    with pytest.raises(ZooError, match=r"not finite at batch 3 \(the average's "):
        fit(Autoencoder(data.spec), data, tmp_path, NonFiniteGuard(), average, Spoils(), steps=3)


def test_masks_that_are_infinite_from_the_start_count_for_nothing(tmp_path):
    class Masked(Autoencoder):
        def __init__(self, spec):
            super().__init__(spec)
            self.register_buffer("mask", torch.tensor([0.0, -float("inf")]))

    data = Digits()
    trainer = fit(Masked(data.spec), data, tmp_path, NonFiniteGuard(), steps=2)
    trainer.save_checkpoint(tmp_path / "good.ckpt")


def test_a_learning_rate_that_destroys_the_model_at_once_names_no_checkpoint(cli):
    status, _, err = cli("fit", "--model", "vae", "--model.lr", "1e30", "--trainer.max_steps", 30, "--wandb", "off")
    assert status == 2
    assert "There is no checkpoint from before: start again with a lower learning rate" in err
    assert not list(Path("runs").rglob("*.ckpt"))


def test_bar_shows_batches_of_the_whole_training_and_the_models_metrics(tmp_path, capsys):
    data = Digits()
    fit(GAN(data.spec), data, tmp_path, MetricsProgressBar(), steps=30, log_every_n_steps=5)
    lines = capsys.readouterr().err.splitlines()
    last = next(line for line in reversed(lines) if "30/30 batches" in line)
    assert "epoch=1" in last
    for name in GAN.progress_bar_metrics:
        assert f"{name}=" in last
    assert "v_num" not in last


@pytest.mark.parametrize(("options", "total"), [({"steps": 5}, 5), ({"steps": -1, "max_epochs": 2}, 42)])
def test_bar_knows_how_long_training_is(tmp_path, options, total):
    data, bar = Digits(), MetricsProgressBar()
    fit(Autoencoder(data.spec), data, tmp_path, bar, limit_val_batches=0, **options)
    assert bar._bar.total == bar._bar.n == total


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (Autoencoder, {"steps": 5, "val_check_interval": 1000, "check_val_every_n_epoch": None}, [5]),
        (Autoencoder, {"steps": 5, "val_check_interval": 2, "check_val_every_n_epoch": None}, [2, 4, 5]),
        (Autoencoder, {"steps": 6, "val_check_interval": 3, "check_val_every_n_epoch": None}, [3, 6]),
        (Autoencoder, {"steps": 5, "check_val_every_n_epoch": 10}, [5]),
        (Autoencoder, {"steps": -1, "max_epochs": 5, "check_val_every_n_epoch": 2}, [6, 12, 15]),
        (Autoencoder, {"steps": -1, "max_epochs": 2, "check_val_every_n_epoch": 2}, [6]),
        (Autoencoder, {"steps": 5, "limit_val_batches": 0}, []),
        (GAN, {"steps": 2, "check_val_every_n_epoch": 10}, [2]),
    ],
)
def test_what_training_ends_with_is_validated_once(tmp_path, model, options, expected):
    """Three batches are an epoch; the GAN steps its optimizers by itself."""
    validated = []

    class Seen(Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                validated.append(trainer.global_step)

    data = Digits(batch_size=512)
    trainer = fit(model(data.spec), data, tmp_path, FinalValidation(), Seen(), **options)
    assert validated == expected
    assert trainer.global_step == max([*expected, options["steps"]])
