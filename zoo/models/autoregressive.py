"""What models of p(x) = Π p(x_i | x_<i) have in common: one network's pass gives all factors; values are drawn in turn."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zoo.distributions.component import Family
from zoo.distributions.likelihoods import LIKELIHOODS, Likelihood, default_likelihood
from zoo.errors import ZooError
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models.base import GenerativeModule
from zoo.options import MOST_UNITS, require_at_least, require_between
from zoo.precision import autocast_off
from zoo.spec import Batch, DataSpec

__all__ = ["AutoregressiveModel"]

# What the command line, which reads annotations, takes are names alone.
if TYPE_CHECKING:
    AnyLikelihood = str | type[Likelihood] | Likelihood
else:
    AnyLikelihood = str


class AutoregressiveModel(GenerativeModule):
    r"""Maximizes log p(x) = Σᵢ log p(x_i | x_<i), exact, in nats, summed over dimensions.

    A subclass gives the network (:meth:`build_network`), in one pass of which the parameters of every factor depend on the
    values before it in an order, and :meth:`ancestral`, which draws the values one after another.

    With ``classes``, K of them, it is p(x|y), trained on the labels y, and p(x) = 1/K Σ_y p(x|y). Logged: nll and
    bits_per_dim; with classes conditional_nll = -log p(x|y).

    Arguments:
        spec: The data's description; the command line fills it in.
        likelihood: Of a value given those before it: ``bernoulli`` (2 levels), ``categorical``, ``discretized_logistic``,
            ``discretized_logistic_mixture``, the dotted path of your own, or ``auto``: by the data's levels, the first, the
            second up to 32, else the last. In Python also a class, or a likelihood that is made.
        likelihood_options: Its options: ``{components: 10}``; ``--model.likelihood NAME --help`` lists them.
        classes: The number of classes of the data's labels, which the model is conditioned on; none if not given.
        lr: The learning rate.
        lr_decay: What it is multiplied with after every batch, where ``schedule`` is constant.
        training: ``optimizer``, ``schedule`` and their options: those of GenerativeModule.

    Raises:
        ZooError: if the data are continuous, or the likelihood is none of theirs.
    """

    likelihood_kind: Literal["exact", "bound"] = "exact"
    monitor: ClassVar[str | None] = "val/loss"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("nll", "conditional_nll", "bits_per_dim")
    compiled: ClassVar[tuple[str, ...]] = ("log_prob",)
    components: ClassVar[Mapping[str, Family]] = {"likelihood": LIKELIHOODS}

    def __init__(
        self,
        spec: DataSpec | dict,
        likelihood: AnyLikelihood = "auto",
        likelihood_options: dict[str, Any] | None = None,
        classes: int | None = None,
        lr: float = 1e-3,
        lr_decay: float = 1.0,
        **training: Any,
    ):
        super().__init__(spec, **training)
        if self.spec.levels is None:
            name = type(self).__name__
            raise ZooError(f"{name} takes data with levels; {self.spec.name} is continuous: see flowpp or af_prior_vae.")
        require_between(1, MOST_UNITS, classes=classes)
        if not 0 < lr_decay <= 1:
            raise ZooError(f"lr_decay {lr_decay}: a number above 0 and up to 1 is needed")
        if (how := self.optimization).schedule == "constant":
            self.optimization = replace(how, schedule_options={"decay": lr_decay, **how.schedule_options})
        chosen = likelihood
        if likelihood == "auto":
            usual = default_likelihood(self.spec)
            chosen = "discretized_logistic_mixture" if usual == "discretized_logistic" else usual
        self.likelihood: Likelihood = self.build_component("likelihood", chosen, (self.spec,), likelihood_options)
        if not self.likelihood.exact:
            name = type(self.likelihood).__name__
            raise ZooError(f"{name} is no likelihood of the {self.spec.levels} levels of {self.spec.name}: leave it out.")
        self.classes, self.lr, self.lr_decay = classes, lr, lr_decay
        self._labels_known = False  # whether a batch with labels within the classes has been seen

    def require_labels(self, label: Tensor | None) -> None:
        """Raise ZooError where the model needs labels, at the first batch, and the data have none or too large ones."""
        if self.classes is None or self._labels_known:
            return
        if label is None:
            raise ZooError(f"classes {self.classes}: {self.spec.name} has no labels; leave classes out.")
        for found in map(int, label.aminmax()):
            if not 0 <= found < self.classes:
                raise ZooError(f"classes {self.classes}: {self.spec.name} has a label {found}; give its number of classes.")
        self._labels_known = True

    @abstractmethod
    def parameters_of(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The likelihood's numbers for every value given those before it.

        Arguments:
            x: Examples on the scale [-1, 1], (B, *shape).
            context: Labels as one-hot vectors, (B, K); None without classes.

        Returns:
            (B, outputs, *shape).
        """

    @abstractmethod
    def ancestral(self, n: int, context: Tensor | None) -> Tensor:
        """Draws values in the order, each by :meth:`draw`: n examples on the scale [-1, 1]; ``context`` as above."""

    @property
    @abstractmethod
    def ranked(self) -> Tensor:
        """The dimension at each place of the order, (D,): numbers of elements of an example."""

    def draw(self, parameters: Tensor) -> Tensor:
        """Values on the scale [-1, 1] from the likelihood's numbers of one dimension: (n, outputs) -> (n,)."""
        return self.spec.to_signed(self.likelihood.sample(parameters.unsqueeze(2)).squeeze(1), parameters.dtype)

    def _context(self, label: Tensor | None) -> Tensor | None:
        if self.classes is None or label is None:
            return None
        return one_hot(label, self.classes).to(self.weight_dtype)

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x), with classes log p(x|y), in nats, (B,), of examples in data space and labels (B,)."""
        parameters = self.parameters_of(self.spec.to_signed(x, self.weight_dtype), self._context(label))
        return self.likelihood.log_prob(x, parameters)

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x), with classes -log p(x|y), the mean over the batch."""
        self.require_labels(batch.label)
        nll = -self.log_prob(batch.x, None if self.classes is None else batch.label).mean()
        if self.classes is not None:
            return nll, {"conditional_nll": nll}
        return nll, {"nll": nll, "bits_per_dim": bits_per_dim(-nll, self.spec)}

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, samples: int = 1) -> Tensor:
        """log p(x) in nats, (B,); with classes log 1/K Σ_y p(x|y). It is exact, and ``samples`` changes nothing."""
        if self.classes is None:
            return self.log_prob(x)
        labels = torch.arange(self.classes, device=x.device)
        of_classes = torch.stack([self.log_prob(x, label.expand(len(x))) for label in labels])  # (K, B)
        return of_classes.logsumexp(0) - math.log(self.classes)

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None) -> Tensor:
        """n draws of p(x), or with labels (n,) of p(x|y): values one after another, each given those before it."""
        require_at_least(0, n=n)
        with autocast_off(self.device.type):
            return self.spec.from_signed(self.ancestral(n, self._context(self._labels(n, label))))

    @torch.no_grad()
    def sequential_sample(self, n: int, label: Tensor | None = None) -> Tensor:
        """:meth:`sample` as it is usually written, D passes of the whole network: slow, short, and its reference."""
        context = self._context(self._labels(n, label))
        x = torch.zeros(n, self.spec.dims, device=self.device, dtype=self.weight_dtype)
        for i in self.ranked.tolist():
            parameters = self.parameters_of(x.view(n, *self.spec.shape), context)
            x[:, i] = self.draw(parameters.flatten(2)[:, :, i])
        return self.spec.from_signed(x.view(n, *self.spec.shape))

    def _labels(self, n: int, label: Tensor | None) -> Tensor | None:
        if label is None and self.classes is not None:
            return torch.randint(self.classes, (n,), device=self.device)
        return label
