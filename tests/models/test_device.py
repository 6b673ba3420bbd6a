"""Device mistakes that need no device: training steps on meta tensors, autocast, optimizers beside clipping."""

import contextlib

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.gpu.cases import Pixels, build, small_cases
from zoo.distributions.posteriors import FullGaussian
from zoo.models import VAE
from zoo.spec import Batch, DataSpec
from zoo.transforms.sylvester import orthogonalize

CASES = small_cases()
PLAIN = [case for case in CASES if not case.label]


class OneDevice(TorchDispatchMode):
    """Fails where an operation takes or makes a tensor that is not on the meta device; a number may be anywhere."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, Tensor) and tensor.dim():
                assert tensor.is_meta, f"{function} with a tensor {tuple(tensor.shape)} on {tensor.device}"
        return out


class Still:
    """In an optimizer's place: there is nothing to change on the meta device."""

    def zero_grad(self) -> None:
        pass

    def step(self) -> None:
        pass


def alone(model):
    """The model with what it asks of a Trainer in a training step."""
    model.counted_and_uncounted = lambda: (Still(), Still())
    model.toggled_optimizer = lambda optimizer: contextlib.nullcontext()
    model.manual_backward = Tensor.backward
    model.step_uncounted = lambda optimizer: None
    return model


def step_on_meta(case) -> Tensor:
    model = alone(build(case, 0).to("meta").train())
    x = torch.empty(case.batch, *case.spec.shape, dtype=torch.uint8, device="meta")
    with OneDevice():
        out = model.training_step(Batch(x), 0)
        loss = out["loss"] if isinstance(out, dict) else out
        if loss.requires_grad:
            loss.backward()
    return loss


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_training_step_stays_on_its_device(case):
    """No tensor is made elsewhere, and no number asked for: on the meta device there is none."""
    loss = step_on_meta(case)
    assert loss.is_meta
    assert loss.shape == ()


MISTAKES = {
    "made on the CPU": lambda x: x + torch.zeros(8),
    "index on the CPU": lambda x: x[torch.arange(2)],
    "waits": lambda x: x * x.sum().item(),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_seen(mistake, monkeypatch):
    monkeypatch.setattr(VAE, "penalty", lambda self, batch, q, z: (mistake(z.mean(1)[:8]).sum(), {}))
    with pytest.raises((RuntimeError, AssertionError)):
        step_on_meta(PLAIN[0])


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_gradients_can_be_clipped_under_autocast(case, tmp_path):
    """Lightning refuses it beside a fused optimizer."""
    model = build(case, 0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"precision": "bf16-mixed", "gradient_clip_val": 1.0}
    trainer = Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, default_root_dir=tmp_path, **quiet, **options)
    trainer.fit(model, Pixels(case, 1))
    fused = {group["fused"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
    assert fused == {False}


def test_adam_is_fused_where_nothing_is_clipped():
    model = VAE(DataSpec("pixels", (1, 8, 8), levels=2))
    assert model.configure_optimizers().defaults["fused"]


def test_gradients_of_orthogonal_matrices_under_autocast():
    """FactorVAE and GAN go backwards inside their training step, where autocast is on."""
    a, gradients = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(0)), []
    for enabled in (False, True):
        x = a.clone().requires_grad_()
        q = orthogonalize(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            gradients.append(torch.autograd.grad(q.square().sum(0).prod(), x)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_a_full_covariance_under_autocast():
    """z = mean + L eps with eps as it was drawn, not rounded to bfloat16 on its way: log q(z) is that of eps."""
    torch.manual_seed(0)
    posterior, features = FullGaussian(8, 4), torch.randn(64, 8)
    samples = []
    for enabled in (False, True):
        torch.manual_seed(1)
        q = posterior(features)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            samples.append(q.rsample_and_log_prob())
    torch.testing.assert_close(samples[0], samples[1], rtol=0, atol=0)
