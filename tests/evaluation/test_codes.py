"""Codes of whole splits: each example once, in its order, with its factors."""

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from datamodules import Digits, DSprites
from zoo.errors import ZooError
from zoo.evaluation import encode
from zoo.models import GAN, VAE
from zoo.spec import Batch


def small(spec):
    torch.manual_seed(0)
    return VAE(spec, network="mlp", hidden=8, latent_dim=2)


def test_codes_are_those_of_the_examples_in_their_order():
    """1,297, 250 and 250 examples in batches of 100, the last of each smaller; training goes on in its own mode."""
    data = Digits()
    model = small(data.spec).train()
    found = encode(model, data, batch_size=100, progress=False)
    assert model.training and set(found) == {f"{s}_{k}" for s in ("train", "val", "test") for k in ("z", "label")}
    for split, arrays in data.splits.items():
        with torch.no_grad():
            expected = model.encode(arrays.x)
        np.testing.assert_allclose(found[f"{split}_z"], expected.numpy(), rtol=1e-5, atol=1e-6)
        assert found[f"{split}_label"].tolist() == arrays.label.tolist()


def test_factors_come_along():
    data = DSprites(resolution=8, size=500)
    found = encode(small(data.spec), data, progress=False)
    assert found["train_factors"].shape == (len(found["train_z"]), 5)


class Own(LightningDataModule):
    """A datamodule that is none of the zoo's."""

    def train_dataloader(self):
        x = torch.arange(70, dtype=torch.uint8).view(70, 1, 1, 1).expand(70, 1, 8, 8) % 17
        return DataLoader(x, batch_size=32, collate_fn=lambda some: Batch(torch.stack(some)))

    val_dataloader = test_dataloader = train_dataloader


def test_own_data_have_codes_too():
    found = encode(small(Digits().spec), Own(), progress=False)
    assert {name: array.shape for name, array in found.items()} == {f"{s}_z": (70, 2) for s in ("train", "val", "test")}


def test_what_has_no_codes_is_a_line():
    with pytest.raises(ZooError, match="GAN does not encode"):
        encode(GAN(Digits().spec), Digits(), progress=False)
    with pytest.raises(ZooError, match="name those that it was trained on"):
        encode(small(Digits().spec), DSprites(resolution=8, size=500), progress=False)
