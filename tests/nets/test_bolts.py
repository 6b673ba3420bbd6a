"""The networks of lightning-bolts, without torchvision; and what is said where bolts is missing."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.models import VAE
from zoo.nets import bolts
from zoo.nets.bolts import BoltsDecoder, BoltsEncoder
from zoo.spec import Batch, DataSpec

needs_bolts = pytest.mark.skipif(importlib.util.find_spec("pl_bolts") is None, reason="make bolts")


@needs_bolts
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 12, 9), (3, 32, 32)])
def test_images_of_any_size(shape):
    features = BoltsEncoder(shape, features=20)(torch.randn(2, *shape))
    assert features.shape == (2, 20)
    assert BoltsDecoder(5, (7, *shape[1:]))(torch.randn(2, 5)).shape == (2, 7, *shape[1:])


@needs_bolts
def test_the_networks_are_bolts_own():
    """ResNet-18 has 11,176,512 parameters without its classifier and 9,408 of its first convolution; this one is 3x3."""
    resnet = BoltsEncoder((3, 8, 8)).layers[0]
    assert type(resnet).__module__ == "pl_bolts.models.autoencoders.components"
    assert sum(parameter.numel() for parameter in resnet.parameters()) == 11_176_512 - 7 * 7 * 3 * 64 + 3 * 3 * 3 * 64


@needs_bolts
def test_a_vae_trains_with_them():
    """A finite loss and a gradient for every parameter by name; the same weights give the same output after a round trip."""
    spec = DataSpec("gray", (1, 12, 9), levels=17)
    model = VAE(spec, "bolts_resnet18", latent_dim=4, posterior="planar", posterior_options={"steps": 2})
    x = torch.randint(17, (4, *spec.shape), dtype=torch.uint8)
    loss, _ = model.objective(Batch(x))
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    again = VAE(**model.hparams).eval()
    again.load_state_dict(model.state_dict())
    z = torch.randn(3, 4)
    assert torch.equal(model.eval().decode(z), again.decode(z))
    assert model.sample(2).shape == (2, *spec.shape)


@needs_bolts
def test_nothing_else_of_bolts_is_imported(recwarn):
    """Neither torchvision nor bolts' packages, which add names to NumPy; and nothing is warned of."""
    bolts._components.cache_clear()
    BoltsEncoder((1, 8, 8))
    assert [name for name in sys.modules if name.partition(".")[0] in ("pl_bolts", "torchvision")] == []
    assert not {"object", "float", "int"} & set(vars(np))
    assert recwarn.list == []


@needs_bolts
def test_the_command_line_knows_them(cli):
    status, out, err = cli("fit", "--model", "vae", "--model.network", "bolts_resnet18", "--print_config")
    assert status == 0, err
    assert "network: bolts_resnet18" in out


def test_the_old_name_is_there_again():
    import zoo.bolts  # noqa: F401

    moved = importlib.import_module("pytorch_lightning.utilities.apply_func")
    assert moved.apply_to_collection([1, 2], int, lambda x: x + 1) == [2, 3]


def test_vectors_and_a_missing_bolts_are_refused(monkeypatch):
    with pytest.raises(ZooError, match="bolts_resnet18 takes images"):
        VAE(DataSpec("vectors", (2,)), "bolts_resnet18")
    monkeypatch.setattr(bolts, "find_spec", lambda name: None)
    bolts._components.cache_clear()
    with pytest.raises(ZooError, match="network bolts_resnet18 needs lightning-bolts: make bolts"):
        VAE(DataSpec("gray", (1, 8, 8), 17), "bolts_resnet18")
