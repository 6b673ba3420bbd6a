"""log p(x) of test examples, exact or as the importance-weighted bound."""

import hashlib
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import length_hint
from typing import Any, Literal
from warnings import warn

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.data_check import CHECKED_BATCHES, check_batch
from zoo.distributed import gather, processes, rank
from zoo.errors import ZooError
from zoo.evaluation.inference import first_test_examples, inference, whole_test_split
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models.base import Autoencodes, GenerativeModule, HasLikelihood, HasPosterior
from zoo.progress import progress_bar

__all__ = ["STANDARD_ERROR", "Likelihood", "evaluate_likelihood", "likelihood_of_examples"]

STANDARD_ERROR = "_standard_error"  # the end of the name of a metric's standard error
_COMPARED, _DRAWS, _ALLOWED = 100, 100, 0.05  # examples, draws of each and nats by which bfloat16 is judged
_ACTIVE = 0.01  # a unit is active if its posterior mean varies by more over the data (Burda et al. 2016, section 5.2)


def evaluate_likelihood(
    model: GenerativeModule,
    data: LightningDataModule,
    *,
    samples: int = 1,
    examples: int | None = None,
    seed: int = 0,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    progress: bool = True,
) -> dict[str, float]:
    r"""Computes :math:`-\log p(x)` of test examples in nats, the mean and its standard error over the examples.

    Arguments:
        model: A model with a likelihood.
        data: Data of the model's spec, whose test split is taken.
        samples: Importance samples for each example; a model whose likelihood is exact needs none.
        examples: How many examples are taken, the first ones; all if not given.
        seed: The seed of what is drawn, for each batch by itself.
        precision: ``bf16-mixed`` computes networks in bfloat16, where that changes the NLL of the first 100 examples by no
            more than 0.05 nats, at the same draws; else a line says so, and it stays float32.
        progress: Whether to show a progress bar.

    Returns:
        ``test/nll`` and, of several examples, ``test/nll_standard_error``; of levels also ``test/nll_bits_per_dim``; of a
        model with codes and a posterior ``test/active_units``, how many codes' means vary by more than 0.01 over the
        examples; and ``test/nll_examples``, ``test/nll_samples`` and ``test/nll_seconds``; in bf16-mixed
        ``test/nll_bf16_error``, by how much the NLL of the first examples differs from that in float32.

    Raises:
        ZooError: if the model has no likelihood, or the examples are not what its spec says.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016)
        | https://arxiv.org/abs/1509.00519
    """
    asked: dict[str, Any] = {"samples": samples, "examples": examples, "seed": seed, "precision": precision}
    return likelihood_of_examples(model, data, **asked, progress=progress).metrics


@dataclass(frozen=True)
class Likelihood:
    """log p(x) of test examples, and how it was computed.

    Attributes:
        log_p: In nats per example, (N,), in the order of the test split.
        kind: ``exact``, or ``bound``: the importance-weighted one.
        samples: Importance samples for each example.
        examples_sha256: The hash of the examples' bytes: two models were asked for the same ones if it is equal.
        metrics: What :func:`evaluate_likelihood` returns.
        precision: That of the networks.
    """

    log_p: Tensor
    kind: str
    samples: int
    examples_sha256: str
    metrics: dict[str, float]
    precision: str = "32-true"

    @property
    def protocol(self) -> dict[str, Any]:
        """How it was measured: numbers are comparable where this is equal. An exact likelihood has no draws."""
        draws = {"draws": self.samples} if self.kind == "bound" else {}
        less = {} if self.precision == "32-true" else {"precision": self.precision}
        return {"kind": self.kind, **draws, **less, "n": len(self.log_p), "examples_sha256": self.examples_sha256}


def likelihood_of_examples(
    model: GenerativeModule,
    data: LightningDataModule,
    *,
    samples: int = 1,
    examples: int | None = None,
    seed: int = 0,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    progress: bool = True,
) -> Likelihood:
    """Computes log p(x) of each test example by itself: what :func:`evaluate_likelihood` averages, with its arguments.

    Raises:
        ZooError: if the model has no likelihood.
    """
    start, error = time.perf_counter(), None
    if precision == "bf16-mixed":
        error = _error_of_bfloat16(model, data, min(samples, _DRAWS), seed)
        if not abs(error) <= _ALLOWED:
            warn(f"in bf16-mixed the NLL differs by {error:.2g} nats from float32, in which it is computed.", stacklevel=2)
            precision, error = "32-true", None
    with _in_precision(model, precision):
        log_p, codes, digest = _of_examples(model, data, samples, examples, seed, progress)
    nll, seen = -log_p, len(log_p)
    metrics: dict[str, float] = {"test/nll": nll.mean().item()}
    if seen > 1:
        metrics[f"test/nll{STANDARD_ERROR}"] = (nll.std() / math.sqrt(seen)).item()
    if model.spec.levels is not None:
        metrics["test/nll_bits_per_dim"] = bits_per_dim(-nll.mean(), model.spec).item()
    if codes is not None and seen > 1:
        metrics["test/active_units"] = int((codes.var(0) > _ACTIVE).sum())
    metrics |= {
        "test/nll_examples": seen,
        "test/nll_samples": samples,
        "test/nll_seconds": time.perf_counter() - start,
    }
    if error is not None:
        metrics["test/nll_bf16_error"] = error
    return Likelihood(log_p, str(getattr(model, "likelihood_kind", "bound")), samples, digest, metrics, precision)


def _in_precision(model: GenerativeModule, precision: str) -> AbstractContextManager:
    return torch.autocast(model.device.type, torch.bfloat16) if precision == "bf16-mixed" else nullcontext()


def _error_of_bfloat16(model: GenerativeModule, data: LightningDataModule, samples: int, seed: int) -> float:
    """NLL of the first examples in bf16-mixed, less that in float32, at the same draws."""
    found = []
    x = first_test_examples(data, _COMPARED).to(model.device)
    for precision in ("32-true", "bf16-mixed"):
        with inference(model, seed), _in_precision(model, precision):
            found.append(_checked(model, samples).log_likelihood(x, samples).double().mean())
    return (found[0] - found[1]).item()


def _checked(model: GenerativeModule, samples: int) -> HasLikelihood:
    """The model; ZooError where it has no likelihood."""
    if not isinstance(model, HasLikelihood):
        raise ZooError(f"--samples {samples}: {type(model).__name__} has no likelihood; leave --samples out.")
    return model


def _of_examples(
    model: GenerativeModule, data: LightningDataModule, samples: int, examples: int | None, seed: int, progress: bool
) -> tuple[Tensor, Tensor | None, str]:
    """log p(x) of the examples (N,), their codes (N, d) where the model has a posterior of them, and the examples' hash.

    Of several processes each takes whole batches in turn, with noise that depends on the seed and the batch: all get the
    numbers of one process.
    """
    likelihood = _checked(model, samples)
    seen, device, encode, latent_dim, digest = 0, model.device, None, 0, hashlib.sha256()
    if isinstance(model, Autoencodes) and isinstance(model, HasPosterior):
        encode, latent_dim = model.encode, model.latent_dim
    places, log_p = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.float64)]
    codes = [torch.empty(0, latent_dim, dtype=torch.float64)]
    hidden = not progress or rank() > 0
    batches = whole_test_split(data)
    total = length_hint(batches) or None
    if total and examples is not None and (size := getattr(batches, "batch_size", None)):
        total = min(total, math.ceil(examples / size))  # for the bar: how many examples a batch has is the loader's affair
    bar = progress_bar(batches, f"log p(x), {samples} samples", total, hidden=hidden)
    with inference(model, seed):
        for number, batch in enumerate(bar):
            if number < CHECKED_BATCHES:
                check_batch(batch, model.spec, "a test batch")
            x = batch.x[: None if examples is None else examples - seen]
            if len(x) == 0:
                break
            seen += len(x)
            digest.update(x.cpu().contiguous().numpy().tobytes())
            if number % processes() != rank():
                continue
            torch.manual_seed(int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
            x = x.to(device)
            places.append(torch.arange(seen - len(x), seen))
            log_p.append(likelihood.log_likelihood(x, samples).cpu().double())
            if encode is not None:
                codes.append(encode(x).cpu().double())
    order = _of_all(places, device).argsort()
    in_order = _of_all(log_p, device)[order], None if encode is None else _of_all(codes, device)[order]
    return *in_order, digest.hexdigest()


def _of_all(parts: list[Tensor], device: torch.device) -> Tensor:
    """The rows of all processes, on the CPU; exchanged on the device."""
    rows = torch.cat(parts)
    return rows if processes() == 1 else gather(rows.to(device)).cpu()
