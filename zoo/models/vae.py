"""The variational autoencoder as five parts: encoder, posterior, prior, decoder, likelihood."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from zoo.distributions.component import Family
from zoo.distributions.likelihoods import LIKELIHOODS, Likelihood, default_likelihood
from zoo.distributions.posteriors import POSTERIORS, FlowPosterior, Posterior, SampledPosterior
from zoo.distributions.priors import PRIORS, FlowPrior, Prior, VampPrior
from zoo.errors import ZooError
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.metrics.elbo_surgery import ELBOSurgery
from zoo.metrics.importance_weighting import Bound, importance_weighted_bound
from zoo.models.base import GenerativeModule, with_likelihood
from zoo.nets.bolts import BoltsDecoder, BoltsEncoder
from zoo.nets.conv import ConvDecoder, ConvEncoder, GatedConvDecoder, GatedConvEncoder
from zoo.nets.locatello import LocatelloDecoder, LocatelloEncoder
from zoo.nets.mlp import gated_mlp, mlp
from zoo.options import MOST_UNITS, require_at_least, require_between, require_call
from zoo.precision import computes_bfloat16
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

__all__ = ["VAE"]

_MLPS = ("mlp", "gated_mlp")
# name -> (encoder of (shape, features), decoder of (latent_dim, shape)), for images
_CONVOLUTIONAL = {
    "conv": (ConvEncoder, ConvDecoder),
    "gated_conv": (GatedConvEncoder, GatedConvDecoder),
    "locatello": (LocatelloEncoder, LocatelloDecoder),
    "bolts_resnet18": (BoltsEncoder, BoltsDecoder),
}
# What the command line, which reads annotations, takes are names alone.
if TYPE_CHECKING:
    AnyPosterior = str | type[Posterior] | Posterior
    AnyPrior = str | type[Prior] | Prior
    AnyLikelihood = str | type[Likelihood] | Likelihood
else:
    AnyPosterior = AnyPrior = AnyLikelihood = str

# Where many latents are drawn for one estimate: the numbers that are decoded at once. They fit in the cache of a core; a GPU
# has all its units at work on more of them.
_AT_ONCE = {"cpu": 2**19}
_AT_ONCE_ELSEWHERE = 2**24
_DRAWN = 2**14  # the latents that are drawn at once, be they small: a flow's layers may be wide


class VAE(GenerativeModule):
    """Maximizes ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)), in nats, summed over dimensions.

    The KL term is in closed form where there is one, log q(z|x) - log p(z) at the sample else; ``kl`` weighs it. A method
    that differs in one part overrides one ``build_...`` method, one that adds a term to the loss overrides
    :meth:`penalty`. Logged: elbo (weight 1, whatever the schedule says), reconstruction = -log p(x|z), kl; capacity, where
    the KL term has one; and, of data for which they mean something, bits_per_dim. Of a whole held-out split and a Gaussian
    posterior also index_code_information and marginal_kl, into which kl is cut by
    :class:`~zoo.metrics.elbo_surgery.ELBOSurgery`.

    Arguments:
        spec: The data's description; the command line fills it in.
        network: ``mlp``, ``gated_mlp``, ``conv``, ``gated_conv``, ``locatello``, ``bolts_resnet18`` (the last four
            for images, the very last with ``make bolts``), or ``auto``: conv for images, mlp for vectors.
        latent_dim: d, the size of z.
        hidden: Units of each of an mlp's two hidden layers, or a list of those of every layer of the encoder: ``[400]`` for
            one. The decoder has them in the other order.
        decoder_hidden: Those of the decoder, where they are others.
        input_scale: What the encoder sees of data with levels: ``signed``, [-1, 1], or ``unit``, [0, 1]. An mlp on images
            that are mostly black learns faster from the latter (docs/results.md).
        posterior: ``diagonal``, ``full``, ``planar``, ``radial``, ``sylvester_orthogonal``, ``sylvester_householder``,
            ``sylvester_triangular``, ``iaf``, ``spline_iaf``, or the dotted path of a Posterior of your own. In Python
            also a class, or a posterior that is made.
        posterior_options: Its options: ``{steps: 8}``; ``--model.posterior NAME --help`` lists them.
        prior: ``normal``, ``mixture``, ``vamp``, ``maf``, ``spline``, or the dotted path of a Prior of your own. In Python
            also a class, or a prior that is made.
        prior_options: Its options: ``{components: 500}``; ``--model.prior NAME --help`` lists them.
        likelihood: ``bernoulli``, ``gaussian``, ``discretized_logistic``, ``discretized_logistic_mixture``,
            ``categorical``, the dotted path of your own, or ``auto``: by the data's levels. In Python also a class, or a
            likelihood that is made.
        likelihood_options: Its options: ``{scale: 0.1}``; ``--model.likelihood NAME --help`` lists them.
        kl: The weight of the KL term: ``beta``, ``warmup``, ``period``, ``free_bits``.
        lr: The learning rate.
        training: ``optimizer``, ``schedule`` and their options: those of GenerativeModule.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014)
        | https://arxiv.org/abs/1312.6114
    """

    monitor: ClassVar[str | None] = "val/elbo"
    monitor_mode: ClassVar[Literal["min", "max"]] = "max"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("elbo", "reconstruction", "kl")
    compiled: ClassVar[tuple[str, ...]] = ("terms",)
    half_weights: ClassVar[bool] = False
    components: ClassVar[Mapping[str, Family]] = {"posterior": POSTERIORS, "prior": PRIORS, "likelihood": LIKELIHOODS}

    def __init__(
        self,
        spec: DataSpec | dict,
        network: Literal["auto", "mlp", "gated_mlp", "conv", "gated_conv", "locatello", "bolts_resnet18"] = "auto",
        latent_dim: int = 16,
        hidden: int | list[int] = 512,
        posterior: AnyPosterior = "diagonal",
        posterior_options: dict[str, Any] | None = None,
        prior: AnyPrior = "normal",
        prior_options: dict[str, Any] | None = None,
        likelihood: AnyLikelihood = "auto",
        likelihood_options: dict[str, Any] | None = None,
        kl: KLSchedule = KLSchedule(),  # noqa: B008 (frozen)
        lr: float = 1e-3,
        decoder_hidden: int | list[int] | None = None,
        input_scale: Literal["signed", "unit"] = "signed",
        **training: Any,
    ):
        super().__init__(spec, **training)
        require_between(1, MOST_UNITS, latent_dim=latent_dim)
        self.hidden = _widths("hidden", hidden)
        self.decoder_hidden = self.hidden[::-1] if decoder_hidden is None else _widths("decoder_hidden", decoder_hidden)
        self.network = ("conv" if self.spec.is_image else "mlp") if network == "auto" else network
        if self.network not in (*_MLPS, *_CONVOLUTIONAL):
            raise ZooError(f"network {network!r} is not known; there are auto, {', '.join([*_MLPS, *_CONVOLUTIONAL])}")
        if self.network not in _MLPS:
            self.require_images(self.network)
            self.warn_of_ineffective(f"network {self.network} has layers of its own", "hidden", "decoder_hidden")
        if input_scale not in ("signed", "unit"):
            raise ZooError(f"input_scale {input_scale!r}: signed or unit is accepted.")
        if self.spec.levels is None:
            self.warn_of_ineffective(f"{self.spec.name} has no levels", "input_scale")
        self.latent_dim, self.lr, self.input_scale = latent_dim, lr, input_scale
        self.kl = KLSchedule.of(kl)
        chosen = default_likelihood(self.spec) if likelihood == "auto" else likelihood
        self.likelihood: Likelihood = self.build_component("likelihood", chosen, (self.spec,), likelihood_options)
        if self.likelihood.exact:
            self.likelihood_kind: Literal["bound"] = "bound"
        self.encoder = self.build_encoder()
        self.decoder = self.build_decoder()
        sizes = (self.encoder_features, latent_dim)
        self.posterior: Posterior = self.build_component("posterior", posterior, sizes, posterior_options)
        self.prior: Prior = self.build_component("prior", prior, (latent_dim,), prior_options)
        require_call(self.prior.sample, "sample(n, temperature)", 1, 1.0)
        if isinstance(self.prior, VampPrior):
            if self.posterior(torch.zeros(1, self.encoder_features)).transform is not None:
                found = type(self.posterior).__name__
                raise ZooError(f"a vamp prior needs a posterior with a density, diagonal or full; {found} has none")
            self.prior.bind(self.spec.shape, self._pseudo_posterior)
        self.elbo_surgery = ELBOSurgery()
        self._held_out: list[tuple[Tensor, SampledPosterior, Distribution]] | None = None

    @property
    def encoder_features(self) -> int:
        """The size of the encoder's output."""
        return self.hidden[-1] if self.network in _MLPS else 256

    def build_encoder(self) -> nn.Module:
        """Examples on the scale of ``input_scale`` (vectors as they are) to features (B, encoder_features)."""
        if self.network in _MLPS:
            sizes = (self.spec.dims, *self.hidden)
            layers = [mlp(sizes), nn.ReLU()] if self.network == "mlp" else [gated_mlp(sizes)]
            return nn.Sequential(nn.Flatten(), *layers)
        return _CONVOLUTIONAL[self.network][0](self.spec.shape, self.encoder_features)

    def build_decoder(self) -> nn.Module:
        """Latents (B, latent_dim) to the likelihood's numbers (B, outputs * C, H, W), or (B, outputs * D) for vectors."""
        outputs = self.likelihood.outputs
        if self.network in _MLPS:
            sizes = (self.latent_dim, *self.decoder_hidden)
            last = outputs * self.spec.dims
            if self.network == "mlp":
                return mlp((*sizes, last))
            return nn.Sequential(gated_mlp(sizes), nn.Linear(sizes[-1], last))
        channels, *size = self.spec.shape
        return _CONVOLUTIONAL[self.network][1](self.latent_dim, (outputs * channels, *size))

    def decoder_output(self, z: Tensor) -> Tensor:
        """The decoder's output for latents (..., d): (..., outputs, *shape), as likelihoods take it."""
        flat = self.decoder(z.flatten(0, -2))
        return flat.view(*z.shape[:-1], self.likelihood.outputs, *self.spec.shape)

    def q(self, x: Tensor) -> SampledPosterior:
        """q(z|x) of examples in data space."""
        scale = self.spec.to_unit if self.input_scale == "unit" else self.spec.to_signed
        return self.posterior(self.encoder(scale(x, self.weight_dtype)))

    def _pseudo_posterior(self, pseudo: Tensor) -> Distribution:
        """q(z|u) of pseudo-examples (M, *shape), on the scale that the encoder sees."""
        return self.posterior(self.encoder(pseudo)).base

    def penalty(self, batch: Batch, q: SampledPosterior, z: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """A term to be added to the loss, and metrics to be logged; nothing here. Override for a method of your own."""
        return 0.0, {}

    def kl_terms(self, q: SampledPosterior, prior: Distribution, z: Tensor, log_q: Tensor) -> Tensor:
        """The KL term in nats of each example, (B,); where free bits are asked for, of its groups, (B, groups).

        In closed form where there is one, log q(z|x) - log p(z) at the sample else: an estimate, which may be below 0. The
        groups, of which Kingma et al. 2016 leave the choice open (arXiv:1606.04934, appendix C.8), are the single latents
        where posterior and prior are both normals of independent ones. Else KL is no sum over latents, and the whole is
        one group: the mean over the batch, be it an estimate, is kept from falling below ``free_bits`` in all.
        """
        if self.kl.free_bits and (groups := q.kl_of_dimensions(prior)) is not None:
            return groups
        kl = q.kl(prior)
        return log_q - prior.log_prob(z) if kl is None else kl

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | float, dict[str, Tensor]]:
        """log p(x|z), the mean over the batch at one draw of z each; :meth:`kl_terms`; then what :meth:`penalty` gives."""
        q, prior = self._posterior_and_prior(batch.x)
        z, log_q = q.rsample_and_log_prob()
        log_p = self.likelihood.log_prob(batch.x, self.decoder_output(z)).mean()
        return log_p, self.kl_terms(q, prior, z, log_q), *self.penalty(batch, q, z)

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x|z) plus the weighted KL term plus :meth:`penalty`, means over the batch; held out, the final weight."""
        t = self.count_batch()
        log_p, kl_terms, penalty, metrics = self.terms(batch)
        kl = (kl_terms.sum(1) if kl_terms.dim() == 2 else kl_terms).mean()
        elbo = log_p - kl
        terms = {"elbo": elbo, "reconstruction": -log_p, "kl": kl, **metrics}
        if self.likelihood.exact and self.spec.levels is not None:
            terms["bits_per_dim"] = bits_per_dim(elbo, self.spec)
        if self.kl.capacity:
            terms["capacity"] = kl.new_full((), self.kl.target(t))
        return self.kl(kl_terms, t) - log_p + penalty, terms

    @contextmanager
    def _encoded_once(self) -> Iterator[None]:
        """Within it the posteriors of a batch, and the prior, are computed once, however often they are asked for."""
        self._held_out = []
        try:
            yield
        finally:
            self._held_out = None

    def _posterior_and_prior(self, x: Tensor) -> tuple[SampledPosterior, Distribution]:
        """q(z|x) and p(z)."""
        if self._held_out is None:
            return self.q(x), self.prior()
        if not any(of is x for of, *_ in self._held_out):
            self._held_out.append((x, self.q(x), self.prior()))
        return next((q, prior) for of, q, prior in self._held_out if of is x)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective on held-out examples, and their codes for the surgery of the KL term."""
        with self._encoded_once():
            super().validation_step(batch, batch_idx)
            self.elbo_surgery.update(*self._posterior_and_prior(batch.x))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on test examples."""
        with self._encoded_once():
            super().test_step(batch, batch_idx)
            self.elbo_surgery.update(*self._posterior_and_prior(batch.x))

    def on_validation_epoch_start(self) -> None:
        """Forget what an epoch that was interrupted has left."""
        super().on_validation_epoch_start()
        self.elbo_surgery.reset()

    def on_test_epoch_start(self) -> None:
        """The same."""
        super().on_test_epoch_start()
        self.elbo_surgery.reset()

    def on_validation_epoch_end(self) -> None:
        """The two parts of the KL term over the validation split."""
        self._log_elbo_surgery("val")

    def on_test_epoch_end(self) -> None:
        """The same over the test split."""
        self._log_elbo_surgery("test")

    def _log_elbo_surgery(self, stage: Literal["val", "test"]) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in self.elbo_surgery.compute().items()}, sync_dist=True)
        self.elbo_surgery.reset()

    def fast_in_bf16(self, device: torch.device) -> bool:
        """On CPUs that multiply in bfloat16, of networks that are not small, without a flow, which stays in float32."""
        if isinstance(self.posterior, FlowPosterior) or isinstance(self.prior, FlowPrior):
            return False
        if self.network == "mlp":
            large = min(*self.hidden, *self.decoder_hidden) >= 400
        else:
            large = self.network in ("conv", "gated_conv", "locatello") and min(self.spec.shape[1:]) >= 28
        return large and device.type == "cpu" and computes_bfloat16(device)

    def importance_weighted(self, x: Tensor, samples: int) -> Bound:
        """The importance-weighted bound on log p(x) with exactly ``samples`` draws, per example, with its error.

        More latents are drawn at once than are decoded: a flow's parameters, which depend on x, are computed for each draw.
        """
        q, prior, examples = self.q(x), self.prior(), max(1, len(x))
        at_once = _AT_ONCE.get(x.device.type, _AT_ONCE_ELSEWHERE)
        decoded = max(1, at_once // (self.likelihood.outputs * self.spec.dims) // examples)
        drawn = max(decoded, _DRAWN // examples)

        def log_weights(k: int) -> Tensor:
            z, log_q = q.rsample_and_log_prob((k,))
            parts = z.split(decoded)
            log_joint = [self.likelihood.log_prob(x, self.decoder_output(part)) + prior.log_prob(part) for part in parts]
            return torch.cat(log_joint) - log_q

        return importance_weighted_bound(log_weights, samples, drawn)

    @with_likelihood
    @torch.no_grad()
    def log_likelihood(self, x: Tensor, samples: int = 1) -> Tensor:
        """The same without the error: nats, (B,)."""
        return self.importance_weighted(x, samples).log_p

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means (B, d) of examples in data space; of a flow by fixed draws (:meth:`SampledPosterior.mean`)."""
        return self.q(x).mean()

    def decode(self, z: Tensor) -> Tensor:
        """The means of p(x|z), levels rounded: (B, d) to (B, *shape) in data space."""
        return self.likelihood.mean(self.decoder_output(z))

    def decode_mean(self, z: Tensor) -> Tensor:
        """The same as pictures show them: of binary data the probabilities, which rounding would make black or white."""
        return self.likelihood.mean_for_plots(self.decoder_output(z))

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """n draws of p(x): z ~ p(z), its noise scaled by ``temperature``, then x ~ p(x|z)."""
        require_at_least(0, n=n)
        return self.likelihood.sample(self.decoder_output(self.prior.sample(n, temperature)))

    @torch.no_grad()
    def sample_mean(self, n: int, temperature: float = 1.0) -> Tensor:
        """Means of p(x|z) for n draws of p(z), as pictures show them: draws of p(x|z) have its noise besides."""
        require_at_least(0, n=n)
        return self.decode_mean(self.prior.sample(n, temperature))


def _widths(name: str, units: int | list[int]) -> list[int]:
    """The units of every hidden layer, of those of both or a list; ZooError for none and for what is no number of units."""
    widths = [units, units] if isinstance(units, int) else list(units)
    if not widths:
        raise ZooError(f"{name} []: one hidden layer or more is needed, [400]")
    for width in widths:
        require_between(1, MOST_UNITS, **{name: width})
    return widths
