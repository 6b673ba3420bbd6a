"""Training in the shortest loop that does the same steps: what any frame around a model could reach at best."""

from collections.abc import Callable, Iterable

import torch
from pytorch_lightning import LightningModule

from zoo.models.factor_vae import permute_dims
from zoo.spec import Batch

__all__ = ["step_by_hand"]


def step_by_hand(model: LightningModule) -> Callable[[Batch], None]:
    """A function that trains the model on a batch, written out, with the model's own optimizers."""
    optimizers = _adams(model)
    kind = {"GAN": _gan, "FactorVAE": _factor_vae}.get(type(model).__name__, _plain)
    return lambda batch: kind(model, optimizers, batch)


def _adams(model: LightningModule) -> list[torch.optim.Optimizer]:
    configured = model.configure_optimizers()
    if isinstance(configured, dict):
        return [configured["optimizer"]]
    return configured if isinstance(configured, list) else [configured]


def _descend(loss: torch.Tensor, adam: torch.optim.Optimizer) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def _plain(model: LightningModule, adams: list, batch: Batch) -> None:
    _descend(model.objective(batch)[0], adams[0])


def _gan(model: LightningModule, adams: list, batch: Batch) -> None:
    x = model.spec.to_signed(batch.x)
    fake = model.generate(model.noise(len(x)))
    real = model.discriminate(x)
    _descend(model.discriminator_loss(real, model.discriminate(fake.detach())), adams[0])
    with _frozen(model.discriminator.parameters()):
        _descend(model.generator_loss(real.detach(), model.discriminate(fake)), adams[1])


def _factor_vae(model: LightningModule, adams: list, batch: Batch) -> None:
    half = (len(batch.x) + 1) // 2
    with _frozen(model.discriminator.parameters()):
        _descend(model.objective(Batch(batch.x[:half]))[0], adams[0])
    with torch.no_grad():
        z, _ = model.q(batch.x).rsample_and_log_prob()
    _descend(model.discriminator_loss(z[:half], permute_dims(z[-half:])), adams[1])


class _frozen:
    """Inside, these parameters get no gradients."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]):
        self.parameters = list(parameters)

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)
