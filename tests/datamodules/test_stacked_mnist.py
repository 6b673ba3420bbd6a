"""Stacked MNIST: what is stacked, from which digits, drawn when, and shared by processes."""

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer

from datamodules import MNIST, StackedMNIST, mnist
from zoo.errors import ZooError
from zoo.models import GAN

SIZES = {"train": 50, "val": 10, "test": 10}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a small MNIST whose pictures tell themselves apart: every pixel of one is its number."""
    images = {"x_train": np.arange(60, dtype=np.uint8), "x_test": np.arange(100, 110, dtype=np.uint8)}
    arrays = {name: np.repeat(value, 784).reshape(-1, 28, 28) for name, value in images.items()}
    arrays |= {"y_train": np.arange(60, dtype=np.uint8) % 10, "y_test": np.arange(10, dtype=np.uint8)}
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setattr(MNIST, "sizes", SIZES)
    monkeypatch.setattr(MNIST, "content_md5", {key: mnist._idx_md5(array) for key, array in arrays.items()})
    return str(tmp_path)


def loaded(root, **options):
    data = StackedMNIST(root, **{"seed": 0, **options})
    data.prepare_data()
    data.setup()
    return data


def numbers(batch):
    """Which pictures the channels show, (B, 3)."""
    x = batch.x.long()
    assert torch.equal(x, x[..., :1, :1].expand_as(x))
    return x[..., 0, 0]


def test_channels_are_digits_and_the_label_is_their_number(root):
    data, places = loaded(root), torch.tensor([100, 10, 1])
    for loader, examples, first, digits in (
        (data.train_dataloader(), 50, 0, 50),
        (data.val_dataloader(), 26_000, 50, 10),
        (data.test_dataloader(), 26_000, 100, 10),
    ):
        batches = list(loader)
        shown, label = (
            torch.cat(parts) for parts in zip(*[(numbers(batch), batch.label) for batch in batches], strict=True)
        )
        assert len(shown) == examples
        assert shown.min() >= first and shown.max() < first + digits, "a split has a digit of another"
        assert torch.equal(label, (shown % 10) @ places)
        assert batches[0].x.dtype == torch.uint8 and batches[0].x.shape[1:] == data.spec.shape


def test_an_epoch_has_each_digit_first_once_and_others_beside_it_anew(root):
    loader = loaded(root, batch_size=16).train_dataloader()
    first, second = (torch.cat([numbers(batch) for batch in loader]) for _ in range(2))
    for epoch in (first, second):
        assert torch.equal(epoch[:, 0].sort().values, torch.arange(50))
        assert (epoch[:, 1] == epoch[:, 2]).float().mean() < 0.3
    by_first = [epoch[epoch[:, 0].argsort()] for epoch in (first, second)]
    assert (by_first[0][:, 1:] == by_first[1][:, 1:]).float().mean() < 0.2


def test_held_out_stacks_are_drawn_once_for_all(root):
    one, other = loaded(root, seed=0, eval_batch_size=7), loaded(root, seed=5, eval_batch_size=1000)
    for split in ("val", "test"):
        assert torch.equal(one.splits[split].x, other.splits[split].x)
        pairs = [torch.cat([batch.label for batch in data.test_dataloader()]) for data in (one, other)]
        assert torch.equal(*pairs)
    assert len(one.splits["test"].label.unique()) == 1000


def test_processes_share_the_batch_that_one_has(root):
    def first(rank, of):
        data = loaded(root, batch_size=12 // of)
        data._place = lambda: (rank, of)
        return next(iter(data.train_dataloader()))

    whole, parts = first(0, 1), [first(rank, 3) for rank in range(3)]
    assert torch.equal(whole.x, torch.cat([part.x for part in parts]))
    assert torch.equal(whole.label, torch.cat([part.label for part in parts]))


class Seen(Callback):
    """The stacks of every training batch."""

    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(numbers(batch).tolist())


def test_a_run_goes_on_with_the_very_next_stacks(root, tmp_path):
    def train(steps, ckpt_path=None):
        seen, data = Seen(), StackedMNIST(root, batch_size=16, seed=0)
        options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(max_steps=steps, callbacks=[seen], limit_val_batches=0, enable_checkpointing=False, **options)
        trainer.fit(GAN(data.spec, width=4), data, ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return seen.batches

    whole = train(6)  # an epoch of 16, 16 and 18 and another
    for stop in (2, 3):
        assert train(stop) + train(6, tmp_path / f"{stop}.ckpt") == whole


def test_files_that_are_not_there_are_mnists(tmp_path):
    with pytest.raises(ZooError, match=r"train-images-idx3-ubyte\.gz .*was not found"):
        StackedMNIST(str(tmp_path)).load()
