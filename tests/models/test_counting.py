"""Training batches are counted by the model: the same with a Trainer, in a loop by hand, and in a run that was resumed."""

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

import zoo
from zoo.models import GAN, VAE, AnnealedVAE, BetaVAE, FactorVAE, GenerativeModule
from zoo.runs.checkpoints import read
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

SPEC = DataSpec("vectors", (3,))
SMALL = {"network": "mlp", "hidden": 8, "latent_dim": 2}


class Watched(KLSchedule):
    """A schedule that notes when it was asked for."""

    def __call__(self, kl, step):
        TIMES.append(step)
        return super().__call__(kl, step)


TIMES: list[int | None] = []


@pytest.fixture(autouse=True)
def _forget():
    TIMES.clear()


def batches(n: int) -> list[Batch]:
    return [Batch(torch.randn(6, 3, generator=torch.Generator().manual_seed(k))) for k in range(n)]


def vae(cls=VAE, **options) -> VAE:
    torch.manual_seed(0)
    model = cls(SPEC, **SMALL, **options)
    model.kl = Watched(**{name: getattr(model.kl, name) for name in KLSchedule.__dataclass_fields__})
    return model


def trainer(folder: Path, steps: int, *callbacks: Callback, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_steps": steps, "enable_checkpointing": bool(callbacks), "num_sanity_val_steps": 1, **options}
    return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, callbacks=list(callbacks), **quiet, **options)


def loader(n: int) -> DataLoader:
    return DataLoader(batches(n), batch_size=None)


def by_hand(model: GenerativeModule, n: int, start: int = 0) -> None:
    optimizer = model.configure_optimizers()
    model.train()
    for k, batch in list(enumerate(batches(n)))[start:]:
        torch.manual_seed(k)
        loss, _ = model.objective(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Seeds(Callback):
    """The noise of a batch is that of its number."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(batch_idx)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loop_by_hand_is_that_of_the_trainer(tmp_path, compiled):
    """The warm-up goes on in both, and ends with the same weights; nothing is compiled anew when t changes."""
    graphs: list = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    ours, theirs = vae(kl={"beta": 2.0, "warmup": 4}), vae(kl={"beta": 2.0, "warmup": 4})
    if compiled:
        ours.compile(backend=backend, fullgraph=True)
    by_hand(ours, 6)
    assert list(range(6)) == TIMES
    TIMES.clear()
    trainer(tmp_path, 6, Seeds(), enable_checkpointing=False).fit(theirs, loader(6))
    assert list(range(6)) == TIMES
    assert ours.training_batches == theirs.training_batches == 6
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert len(graphs) == compiled


def test_what_is_held_out_does_not_count(tmp_path):
    """Nor does the sanity check, nor what is computed without gradients."""
    model = vae(kl={"warmup": 4})
    trainer(tmp_path, 3, val_check_interval=1).fit(model, loader(3), loader(2))
    assert TIMES == [None, 0, None, None, 1, None, None, 2, None, None]
    TIMES.clear()
    model.eval().objective(batches(1)[0])
    with torch.no_grad():
        model.train().objective(batches(1)[0])
    assert TIMES == [None, 3]
    assert model.training_batches == 3


@pytest.mark.parametrize("cls", [VAE, BetaVAE, AnnealedVAE])
def test_batches_are_counted_and_not_steps(cls, tmp_path):
    model = vae(cls)
    fit = trainer(tmp_path, 8, accumulate_grad_batches=4)
    fit.fit(model, loader(8))
    assert fit.global_step == 8
    assert list(range(8)) == TIMES


def test_a_loop_under_fabric_counts_too():
    fabric = Fabric(accelerator="cpu", devices=1)
    model = vae(kl={"warmup": 4})
    module, optimizer = fabric.setup(model, model.configure_optimizers())
    module.mark_forward_method("objective")
    for batch in batches(3):
        loss, _ = module.objective(batch)
        fabric.backward(loss)
        optimizer.step()
    assert TIMES == [0, 1, 2]


def test_what_a_callback_computes_before_the_first_batch_is_of_the_first(tmp_path):
    class Early(Callback):
        def on_train_start(self, trainer, pl_module):
            pl_module.train().objective(batches(1)[0])

    trainer(tmp_path, 2, Early(), enable_checkpointing=False).fit(vae(kl={"warmup": 4}), loader(2))
    assert TIMES == [0, 0, 1]


def test_an_objective_may_be_computed_several_times_for_a_batch(tmp_path):
    class Twice(VAE):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + self.objective(batch)[0]

    trainer(tmp_path, 3).fit(vae(Twice), loader(3))
    assert TIMES == [0, 0, 1, 1, 2, 2]


def test_a_factor_vae_counts_batches(tmp_path):
    model = vae(FactorVAE, discriminator_width=4)
    trainer(tmp_path, 3).fit(model, loader(3))
    assert TIMES == [0, 1, 2]


@pytest.mark.parametrize("epochs", [False, True])
def test_a_run_goes_on_where_its_count_was(tmp_path, epochs):
    """Checkpoints that are written inside an epoch, at its end, and by hand; with gradients that are accumulated."""
    options = {"accumulate_grad_batches": 2}
    limits = [{"max_steps": -1, "max_epochs": n} for n in (1, 3)] if epochs else [{"max_steps": n} for n in (2, 12)]
    whole, first, rest = (vae(kl={"warmup": 9}) for _ in range(3))
    trainer(tmp_path, 0, Seeds(), **limits[1], **options, enable_checkpointing=False).fit(whole, loader(4))
    expected = list(range(12))
    assert expected == TIMES
    TIMES.clear()
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=None if epochs else 2, save_top_k=-1)
    fit = trainer(tmp_path, 0, Seeds(), saving, **limits[0], **options)
    fit.fit(first, loader(4))
    fit.save_checkpoint(tmp_path / "last.ckpt")
    seen = 4 if epochs else 2
    assert expected[:seen] == TIMES
    (written,) = tmp_path.glob("step=*.ckpt")
    for path in (written, tmp_path / "last.ckpt"):
        assert read(path)["zoo_training_batches"] == zoo.load(path).training_batches == seen
    trainer(tmp_path, 0, Seeds(), **limits[1], **options, enable_checkpointing=False).fit(
        rest, loader(4), ckpt_path=written, weights_only=True
    )
    assert expected == TIMES
    if epochs:  # within an epoch a plain loader starts anew
        torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_loop_by_hand_goes_on_from_a_trainer_and_from_a_checkpoint(tmp_path):
    model = vae(kl={"warmup": 9})
    fit = trainer(tmp_path, 3)
    fit.fit(model, loader(3))
    fit.save_checkpoint(tmp_path / "last.ckpt")
    by_hand(model, 5, start=3)
    loaded = zoo.load(tmp_path / "last.ckpt")
    by_hand(loaded, 5, start=3)
    assert TIMES == [0, 1, 2, 3, 4]  # a loaded model has a schedule of its own
    assert model.training_batches == loaded.training_batches == 5


def test_the_generator_steps_after_every_so_many_batches(tmp_path):
    class Watch(GAN):
        def generator_loss(self, real, fake):
            TIMES.append(self.training_batches)
            return super().generator_loss(real, fake)

    first, rest = (Watch(SPEC, width=4, depth=1, latent_dim=2, critic_steps=3) for _ in range(2))
    fit = trainer(tmp_path, 4)
    fit.fit(first, loader(10))
    fit.save_checkpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, 10).fit(rest, loader(10), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert TIMES == [3, 6, 9]


def test_the_capacity_that_is_logged_is_that_of_the_batch():
    model = vae(AnnealedVAE, capacity=10.0, capacity_steps=5)
    capacities = [model.objective(batch)[1]["capacity"].item() for batch in batches(7)]
    assert capacities == [0, 2, 4, 6, 8, 10, 10]
    assert model.eval().objective(batches(1)[0])[1]["capacity"].item() == 10
