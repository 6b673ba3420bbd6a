"""UDR of trained models of one setting: which of them to keep, where no factors are known."""

from collections.abc import Iterable

import torch
from pytorch_lightning import LightningDataModule

from zoo.errors import ZooError
from zoo.evaluation.inference import first_test_examples, inference
from zoo.metrics.disentanglement.udr import UDR, udr
from zoo.models.base import GenerativeModule
from zoo.models.vae import VAE
from zoo.options import require_at_least

__all__ = ["evaluate_udr"]


def evaluate_udr(
    models: Iterable[GenerativeModule],
    data: LightningDataModule,
    *,
    points: int = 1000,
    correlation: str = "lasso",
    seed: int = 0,
) -> UDR:
    """Computes the unsupervised disentanglement ranking (:func:`zoo.metrics.udr`) of VAEs that differ in their seeds.

    Codes are posterior means of the first test examples, the same for all; no factors are needed.

    Arguments:
        models: The models, each on the device where it encodes. They may be loaded one after the other:
            ``(zoo.load(path) for path in checkpoints)``.
        data: Data of the shape and levels that they were made for.
        points: The number of test examples, or all where there are fewer.
        correlation: ``"lasso"`` or ``"spearman"``.
        seed: The seed of what is random in the data.

    Returns:
        The score of each model, in the order given, and of each pair.

    Raises:
        ZooError: for fewer than two models, data of another shape or levels, and a model whose posterior or prior is not
            normal with independent latents, for which no code has a KL divergence of its own.

    Example:
        >>> from datamodules import Digits
        >>> vaes = [VAE(Digits().spec, network="mlp", hidden=8, latent_dim=2) for _ in range(3)]
        >>> evaluate_udr(vaes, Digits(), points=100).scores.shape
        torch.Size([3])
    """
    require_at_least(2, points=points)
    data.prepare_data()
    data.setup("test")
    codes, kl, examples = [], [], None
    for model in models:
        with inference(model, seed):
            if examples is None:
                examples = first_test_examples(data, points)
            if not isinstance(model, VAE):
                raise ZooError(f"udr: {type(model).__name__} is no VAE, whose codes have a KL divergence each.")
            if model.spec.shape != examples.shape[1:]:
                raise ZooError(f"udr: the model takes shape {model.spec.shape}, the data have {tuple(examples.shape[1:])}.")
            means, divergences = [], []
            for x in examples.split(256):
                q = model.q(x.to(model.device))
                if (divergence := q.kl_of_dimensions(model.prior())) is None:
                    raise ZooError("udr needs a KL divergence of each code: posterior diagonal and prior normal.")
                means.append(q.mean())
                divergences.append(divergence)
            codes.append(torch.cat(means).cpu())
            kl.append(torch.cat(divergences).mean(dim=0).cpu())
    return udr(codes, kl, correlation)
