"""log p(x) of test examples, exact or as the importance-weighted bound."""

import math
import time

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from tqdm import tqdm

from zoo.errors import ZooError
from zoo.evaluation.inference import inference
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models.base import Autoencodes, GenerativeModule, HasLikelihood, HasPosterior

__all__ = ["STANDARD_ERROR", "evaluate_likelihood"]

STANDARD_ERROR = "_standard_error"  # the end of the name of a metric's standard error
_ACTIVE = 0.01  # a unit is active if its posterior mean varies by more over the data (Burda et al. 2016, section 5.2)


def evaluate_likelihood(
    model: GenerativeModule,
    data: LightningDataModule,
    *,
    samples: int = 1,
    examples: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    r"""Computes :math:`-\log p(x)` of test examples in nats, the mean and its standard error over the examples.

    Arguments:
        model: A model with a likelihood.
        data: Data of the model's spec, whose test split is taken.
        samples: Importance samples for each example; a model whose likelihood is exact needs none.
        examples: How many examples are taken, the first ones; all if not given.
        seed: The seed of what is drawn.
        progress: Whether to show a progress bar.

    Returns:
        ``test/nll`` and, of several examples, ``test/nll_standard_error``; of levels also ``test/nll_bits_per_dim``; of a
        model with codes and a posterior ``test/active_units``, how many codes' means vary by more than 0.01 over the
        examples; and ``test/nll_examples``, ``test/nll_samples`` and ``test/nll_seconds``.

    Raises:
        ZooError: if the model has no likelihood.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016)
        | https://arxiv.org/abs/1509.00519
    """
    if not isinstance(model, HasLikelihood):
        raise ZooError(f"--samples {samples}: {type(model).__name__} has no likelihood; leave --samples out.")
    start, seen = time.perf_counter(), 0
    log_p: list[Tensor] = []
    means: list[Tensor] = []
    with inference(model, seed):
        for batch in tqdm(data.test_dataloader(), f"log p(x), {samples} samples", unit=" batches", disable=not progress):
            x = batch.x[: None if examples is None else examples - seen].to(model.device)
            if len(x) == 0:
                break
            seen += len(x)
            log_p.append(model.log_likelihood(x, samples).cpu())
            if isinstance(model, Autoencodes) and isinstance(model, HasPosterior):
                means.append(model.encode(x).cpu())
    nll = -torch.cat(log_p).double()
    metrics: dict[str, float] = {"test/nll": nll.mean().item()}
    if seen > 1:
        metrics[f"test/nll{STANDARD_ERROR}"] = (nll.std() / math.sqrt(seen)).item()
    if model.spec.levels is not None:
        metrics["test/nll_bits_per_dim"] = bits_per_dim(-nll.mean(), model.spec).item()
    if means and seen > 1:
        metrics["test/active_units"] = int((torch.cat(means).var(0) > _ACTIVE).sum())
    return {
        **metrics,
        "test/nll_examples": seen,
        "test/nll_samples": samples,
        "test/nll_seconds": time.perf_counter() - start,
    }
