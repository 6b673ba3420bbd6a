"""Networks lie in memory where it was measured to pay, and what is trained does not depend on it; precisions."""

import csv

import pytest
import torch
from conftest import REPOSITORY
from pytorch_lightning import Trainer

from datamodules import Digits
from zoo.errors import ZooError
from zoo.models import GAN, MADE, VAE, FlowPlusPlus
from zoo.models import vae as vae_module
from zoo.nets.locatello import LocatelloDecoder, LocatelloEncoder
from zoo.registry import MODELS, find_class
from zoo.runs import fit, training
from zoo.spec import DataSpec

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}


def train(batches: int, path=None, **options) -> VAE:
    torch.manual_seed(0)
    data = Digits(batch_size=8)
    model = VAE(data.spec, network="locatello", latent_dim=2)
    trainer = Trainer(accelerator="cpu", max_steps=batches, **QUIET, **options)
    trainer.fit(model, data, ckpt_path=path, weights_only=True)
    return model


def in_channels_last(model: torch.nn.Module) -> list[bool]:
    weights = [weight for weight in model.parameters() if weight.dim() == 4 and min(weight.shape[:2]) > 1]
    return [not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last) for weight in weights]


def test_networks_that_say_so_are_in_channels_last(tmp_path):
    model = train(1, default_root_dir=tmp_path)
    assert all(in_channels_last(model)) and len(in_channels_last(model)) > 4
    adam = model.trainer.optimizers[0]
    assert all(kept["exp_avg"].stride() == weight.stride() for weight, kept in adam.state.items())
    data = Digits(batch_size=8)
    other = VAE(data.spec, network="conv", latent_dim=2)
    Trainer(accelerator="cpu", max_steps=1, default_root_dir=tmp_path, **QUIET).fit(other, data)
    assert not any(in_channels_last(other))


@pytest.mark.parametrize("first", [("cpu",), ()])
def test_a_run_goes_on_in_another_memory_format(tmp_path, monkeypatch, first):
    """Of a checkpoint from another device, or from before; to rounding as if it had not stopped."""

    def formats(devices: tuple[str, ...]) -> None:
        for network in (LocatelloEncoder, LocatelloDecoder):
            monkeypatch.setattr(network, "channels_last", devices)

    formats(first)
    whole = train(6, default_root_dir=tmp_path / "whole")
    train(3, default_root_dir=tmp_path / "part")
    (path,) = (tmp_path / "part").rglob("*.ckpt")
    formats(() if first else ("cpu",))
    rest = train(6, path, default_root_dir=tmp_path / "rest")
    assert all(in_channels_last(rest)) != all(in_channels_last(whole))
    for (name, a), b in zip(whole.named_parameters(), rest.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5, msg=name)
    for a, b in zip(whole.trainer.optimizers[0].state.values(), rest.trainer.optimizers[0].state.values(), strict=True):
        torch.testing.assert_close(a["exp_avg_sq"], b["exp_avg_sq"], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("model", [VAE, GAN, FlowPlusPlus])
def test_a_precision_that_a_model_can_not_be_computed_in_is_two_lines(tmp_path, model):
    data = Digits()
    with pytest.raises(ZooError, match=r"bf16-true: weights of 16 bits .*\n.*bf16-mixed"):
        fit(model(data.spec), data, root=tmp_path, wandb="off", precision="bf16-true", max_steps=1)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ZooError, match="bf16-true"):
        Trainer(accelerator="cpu", precision="bf16-true", max_steps=1, **QUIET).fit(model(data.spec), data)


def test_a_model_that_can_is_trained_in_it(tmp_path):
    data = Digits()
    trainer = Trainer(accelerator="cpu", precision="bf16-true", max_steps=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(model := MADE(data.spec, hidden=8), data)
    assert model.weight_dtype == torch.bfloat16


PIXELS, SMALL = DataSpec("pixels", (1, 28, 28), levels=2), DataSpec("digits", (1, 8, 8), levels=17)
FAST = [
    (PIXELS, {"network": "mlp", "hidden": 400}, True),
    (PIXELS, {"network": "mlp", "hidden": [400, 64]}, False),
    (PIXELS, {"network": "mlp", "hidden": 400, "prior": "maf"}, False),
    (PIXELS, {"network": "mlp", "hidden": 400, "posterior": "planar"}, False),
    (PIXELS, {"network": "conv"}, True),
    (SMALL, {"network": "conv"}, False),
]


@pytest.mark.parametrize(("spec", "options", "fast"), FAST)
def test_bf16_is_recommended_where_it_was_measured_to_pay(spec, options, fast, monkeypatch):
    model = VAE(spec, **options)
    for units in (True, False):
        monkeypatch.setattr(vae_module, "computes_bfloat16", lambda device, units=units: units)
        assert model.fast_in_bf16(torch.device("cpu")) == (fast and units)
    assert not model.fast_in_bf16(torch.device("cuda"))


@pytest.mark.parametrize(
    ("options", "said"), [({}, True), ({"max_steps": 900}, False), ({"precision": "bf16-mixed"}, False)]
)
def test_it_is_recommended_in_a_line_at_the_start(options, said, monkeypatch, capsys):
    model = VAE(SMALL, hidden=8)
    monkeypatch.setattr(model, "fast_in_bf16", lambda device: True)
    training._recommend_precision(model, Trainer(accelerator="cpu", logger=False, max_epochs=1, **options))
    assert ("--trainer.precision bf16-mixed" in capsys.readouterr().out) == said


def test_it_is_recommended_for_models_that_keep_their_numbers():
    """By results/precision.csv."""
    with (REPOSITORY / "results" / "precision.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    page = (REPOSITORY / "benchmarks" / "README.md").read_text()
    for row in rows.values():
        assert "| " + " | ".join(value for name, value in row.items() if name != "judged_in_bf16_mixed") + " |" in page
        assert (abs(float(row["bf16_mixed_minus_float32"])) <= float(row["spread_of_seeds"])) == (row["keeps"] == "yes")
    kept = {name.partition(" ")[0] for name in rows if rows[name]["keeps"] == "yes"}
    assert {name for name, entry in MODELS.items() if issubclass(find_class(entry.path), VAE)} <= kept
