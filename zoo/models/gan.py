"""Generative adversarial networks: a generator against a discriminator, six losses, on logits throughout."""

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import relu, softplus
from torch.nn.utils.parametrizations import spectral_norm

from zoo.distributed import rand, randn, weighted
from zoo.errors import ZooError
from zoo.models.base import GenerativeModule
from zoo.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from zoo.nets.mlp import mlp
from zoo.options import MOST_LAYERS, MOST_UNITS, require_at_least, require_between, require_decay_rates
from zoo.precision import autocast_off, widen_half
from zoo.spec import Batch, DataSpec

__all__ = ["GAN", "LOSSES", "gradient_penalty", "jsd_estimate", "r1_penalty", "r2_penalty", "value_function"]


class AdversarialLoss(NamedTuple):
    """What the two players minimize, as functions of D's outputs, logits (B,), on real and generated examples.

    Attributes:
        discriminator: (real, fake) -> scalar.
        generator: The same; of ``real`` only the loss of pairs makes use.
        paired: Whether it is one of pairs, which asks how much more real an example looks than another.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


def value_function(real: Tensor, fake: Tensor) -> Tensor:
    """V(G, D) = E log D(x) + E log(1 - D(G(z))) in nats, from logits: log D = -softplus(-logit). At most 0."""
    return -softplus(-real).mean() - softplus(fake).mean()


def jsd_estimate(v: Tensor) -> Tensor:
    """(V + 2 log 2) / 2: the Jensen-Shannon divergence in nats where D is optimal, a lower bound of it for any other D.

    max_D V(G, D) = 2 JSD(data || G) - 2 log 2 (Goodfellow et al. 2014, Theorem 1).
    """
    return (v + 2 * math.log(2)) / 2


LOSSES = {
    # min_G max_D V, the game of the lecture (Goodfellow et al. 2014, equation 1)
    "minimax": AdversarialLoss(lambda real, fake: -value_function(real, fake), lambda real, fake: -softplus(fake).mean()),
    # the same D; G maximizes E log D(G(z)) (Goodfellow et al. 2014, section 3)
    "non_saturating": AdversarialLoss(
        lambda real, fake: -value_function(real, fake), lambda real, fake: softplus(-fake).mean()
    ),
    # Lim & Ye 2017, arXiv:1705.02894
    "hinge": AdversarialLoss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(), lambda real, fake: -fake.mean()
    ),
    # targets 1 for real, 0 for generated, 1 for the generator (Mao et al. 2017, arXiv:1611.04076)
    "least_squares": AdversarialLoss(
        lambda real, fake: ((real - 1).square().mean() + fake.square().mean()) / 2,
        lambda real, fake: (fake - 1).square().mean() / 2,
    ),
    # Wasserstein distance by its dual (Arjovsky et al. 2017, arXiv:1701.07875); needs the gradient penalty
    "wasserstein": AdversarialLoss(lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()),
    # pairs: which of the two is real (Jolicoeur-Martineau 2018, arXiv:1807.00734; Huang et al. 2024, arXiv:2501.05441)
    "relativistic": AdversarialLoss(
        lambda real, fake: softplus(fake - real).mean(), lambda real, fake: softplus(real - fake).mean(), paired=True
    ),
}


def _slopes(discriminator: nn.Module, x: Tensor) -> Tensor:
    """Squared norm of D's gradient at each example, (B,): over all its dimensions, in float32 whatever autocast says."""
    with autocast_off(x.device.type):
        x = widen_half(x.detach()).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """E (|grad D(x)| - 1)^2 at random points between real and generated examples, one norm per example.

    References:
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017)
        | https://arxiv.org/abs/1704.00028
    """
    mix = rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    squared = _slopes(discriminator, mix * real + (1 - mix) * fake)
    return ((squared + 1e-12).sqrt() - 1).square().mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """1/2 E |grad D(x)|^2 at real examples: with the weight gamma, the papers' gamma/2 E |grad D(x)|^2.

    References:
        | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
        | https://arxiv.org/abs/1801.04406
    """
    return _slopes(discriminator, real).mean() / 2


def r2_penalty(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """The same at generated examples.

    References:
        | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
        | https://arxiv.org/abs/1801.04406
        | The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024)
        | https://arxiv.org/abs/2501.05441
    """
    return _slopes(discriminator, fake).mean() / 2


class GAN(GenerativeModule):
    """A generator G(z), z ~ N(0, I), trained against a discriminator D that tells its examples from real ones.

    Logged: both losses; mean D on real and generated examples, D the sigmoid of the logit; the value V and the estimate
    (V + 2 log 2) / 2 of the Jensen-Shannon divergence, in nats. V bounds the divergence for any D; only ``minimax`` and
    ``non_saturating`` train D to maximize it, so that with the others the bound is loose and can be negative. One
    optimizer step of D is made per batch, and one of G every ``critic_steps`` batches; ``global_step`` counts batches.

    Arguments:
        spec: The data's description; the command line fills it in.
        loss: ``minimax``, ``non_saturating``, ``hinge``, ``least_squares``, ``wasserstein`` or ``relativistic``.
        network: ``mlp``, ``dcgan`` (images), or ``auto``: dcgan for images, mlp for vectors.
        latent_dim: Size of z.
        width: Channels (dcgan) or hidden units (mlp) of the narrowest layer; 64 or 256 if not given.
        depth: Hidden layers of the mlp.
        lr: Learning rate of the generator.
        discriminator_lr: The same for the discriminator; ``lr`` if not given.
        betas: Decay rates of Adam, and of other optimizers that have them.
        critic_steps: Discriminator steps, on as many batches, for one of the generator.
        gradient_penalty: Weight of the gradient penalty; 10 for ``wasserstein`` and 0 else, if not given.
        r1: Weight gamma of the R1 penalty, gamma/2 E |grad D|^2 at real examples.
        r2: The same of the R2 penalty, at generated examples.
        spectral_norm: Divide each weight of the discriminator by its largest singular value (Miyato et al. 2018,
            arXiv:1802.05957).
        training: ``optimizer``, ``schedule`` and their options: those of GenerativeModule.

    References:
        | Generative Adversarial Nets (Goodfellow et al., 2014)
        | https://arxiv.org/abs/1406.2661
    """

    # Each backward of the game leaves the other player's parameters unused, which plain "ddp" refuses.
    strategy: ClassVar[str] = "ddp_find_unused_parameters_true"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("discriminator_loss", "generator_loss", "jsd")
    # Not the penalties: they take the gradient of a gradient, which torch.compile can't.
    compiled: ClassVar[tuple[str, ...]] = ("generate", "discriminate")
    half_weights: ClassVar[bool] = False

    def __init__(
        self,
        spec: DataSpec | dict,
        loss: Literal[
            "minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"
        ] = "non_saturating",
        network: Literal["auto", "mlp", "dcgan"] = "auto",
        latent_dim: int = 64,
        width: int | None = None,
        depth: int = 3,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        critic_steps: int = 1,
        gradient_penalty: float | None = None,
        r1: float = 0.0,
        r2: float = 0.0,
        spectral_norm: bool = False,
        **training: Any,
    ):
        super().__init__(spec, **training)
        if loss not in LOSSES:
            raise ZooError(f"loss {loss!r} is not known; there are {', '.join(LOSSES)}")
        if network not in ("auto", "mlp", "dcgan"):
            raise ZooError(f"network {network!r} is not known; there are auto, mlp, dcgan")
        require_at_least(1, critic_steps=critic_steps)
        require_at_least(0, lr=lr, discriminator_lr=discriminator_lr, gradient_penalty=gradient_penalty, r1=r1, r2=r2)
        require_between(1, MOST_UNITS, latent_dim=latent_dim, width=width)
        require_between(0, MOST_LAYERS, depth=depth)
        require_decay_rates(betas=betas)
        _require_pairs(type(self))
        self.automatic_optimization = False
        self.loss, self.latent_dim, self.width, self.depth = loss, latent_dim, width, depth
        self.lr, self.discriminator_lr = lr, lr if discriminator_lr is None else discriminator_lr
        self.betas = (betas[0], betas[1])  # a list, from YAML
        self.critic_steps, self.r1, self.r2 = critic_steps, r1, r2
        self.gradient_penalty = (10.0 if loss == "wasserstein" else 0.0) if gradient_penalty is None else gradient_penalty
        self.network = ("dcgan" if self.spec.is_image else "mlp") if network == "auto" else network
        if self.network == "dcgan":
            self.warn_of_ineffective("the layers of network dcgan follow from the size of the images", "depth")
        self.generator = self.build_generator()
        self.discriminator = self.build_discriminator()
        if spectral_norm:
            self.discriminator.apply(_normalize_spectrum)

    def compile(self, **options: Any) -> None:
        """That of GenerativeModule; of images with one channel without inductor's choice of channels-last convolutions.

        A tensor of one channel is laid out both ways at once, and torch 2.11 then takes the wrong one on a GPU: it stops.
        """
        if self.spec.is_image and self.spec.shape[0] == 1 and not options.keys() & {"backend", "mode"}:
            options["options"] = {"layout_optimization": False, **options.get("options", {})}
        super().compile(**options)

    def build_generator(self) -> nn.Module:
        """Latents (B, latent_dim) to what :meth:`generate` turns into examples; override for a network of your own."""
        if self.network == "mlp":
            hidden = [self.width or 256] * self.depth
            return nn.Sequential(mlp((self.latent_dim, *hidden, self.spec.dims)), nn.Unflatten(1, self.spec.shape))
        self.require_images(self.network)
        return DCGANGenerator(self.latent_dim, self.spec.image_shape, self.width or 64)

    def build_discriminator(self) -> nn.Module:
        """Examples as :meth:`generate` gives them to logits (B,); override for a network of your own."""
        if self.network == "mlp":
            hidden = [self.width or 256] * self.depth
            return nn.Sequential(nn.Flatten(), mlp((self.spec.dims, *hidden, 1), lambda: nn.LeakyReLU(0.2)), nn.Flatten(0))
        self.require_images(self.network)
        return DCGANDiscriminator(self.spec.image_shape, self.width or 64)

    def generate(self, z: Tensor) -> Tensor:
        """G(z): images with values in (-1, 1), vectors as they are. (B, latent_dim) -> (B, *shape)."""
        x = self.generator(z)
        return x if self.spec.levels is None else x.tanh()

    def noise(self, n: int) -> Tensor:
        """z ~ N(0, I), (n, latent_dim)."""
        return randn(n, self.latent_dim, device=self.device, dtype=self.weight_dtype)

    @property
    def _generator_needs_real(self) -> bool:
        """Whether G's loss asks what the D that was just stepped makes of real examples: that of pairs, or one's own."""
        return LOSSES[self.loss].paired or type(self).generator_loss is not GAN.generator_loss

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimizes, from its logits (B,) on real and generated examples; override for a loss of your own."""
        return LOSSES[self.loss].discriminator(real, fake)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What G minimizes, from the logits (B,) of the D that it plays against on both; override for a loss of your own."""
        return LOSSES[self.loss].generator(real, fake)

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalties on D's slope, from real and generated examples."""
        penalty = real.new_zeros(())
        if self.gradient_penalty:
            penalty = penalty + self.gradient_penalty * gradient_penalty(self.discriminator, real, fake)
        if self.r1:
            penalty = penalty + self.r1 * r1_penalty(self.discriminator, real)
        if self.r2:
            penalty = penalty + self.r2 * r2_penalty(self.discriminator, fake)
        return penalty

    def diagnostics(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The state of the game, from D's logits (B,): V, its estimate of the JSD, and mean D, for every loss the same."""
        real, fake = real.detach(), fake.detach()
        v = value_function(real, fake)
        means = {"d_real": real.sigmoid().mean(), "d_fake": fake.sigmoid().mean()}
        return {"value_function": v, "jsd": jsd_estimate(v), **means}

    def discriminate(self, x: Tensor) -> Tensor:
        """D's logits (B,) on examples as :meth:`generate` gives them, in float32 whatever autocast says."""
        return widen_half(self.discriminator(x))

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """D's loss, without penalties, and beside it G's loss and the state of the game."""
        real = self.discriminate(self.spec.to_signed(batch.x, self.weight_dtype))
        fake = self.discriminate(self.generate(self.noise(len(batch.x))))
        loss = self.discriminator_loss(real, fake)
        losses = {"discriminator_loss": loss, "generator_loss": self.generator_loss(real, fake)}
        return loss, {**losses, **self.diagnostics(real, fake)}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of D, and after every ``critic_steps`` of them one of G, on the same generated examples."""
        discriminator_adam, generator_adam = self.counted_and_uncounted()
        x = self.spec.to_signed(batch.x, self.weight_dtype)
        with_generator = self.training_batches % self.critic_steps == 0
        with torch.set_grad_enabled(with_generator):
            fake = self.generate(self.noise(len(x)))

        real_logits, fake_logits = self.discriminate(x), self.discriminate(fake.detach())
        loss_d = self.discriminator_loss(real_logits, fake_logits)
        total = loss_d + self.penalty(x, fake.detach())
        discriminator_adam.zero_grad()
        self.manual_backward(weighted(total, len(x)))
        discriminator_adam.step()
        terms = {"discriminator_loss": loss_d, **self.diagnostics(real_logits, fake_logits)}

        if with_generator:
            with self.toggled_optimizer(generator_adam):
                against = self.discriminate(x) if self._generator_needs_real else real_logits.detach()
                loss_g = self.generator_loss(against, self.discriminate(fake))
                generator_adam.zero_grad()
                self.manual_backward(weighted(loss_g, len(x)))
                self.step_uncounted(generator_adam)
            terms["generator_loss"] = loss_g
            total = total + loss_g
        self.log_terms("train", terms, len(x))
        return {"loss": total.detach()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer for the discriminator, first, and one for the generator."""
        return [
            self.build_optimizer(self.discriminator.parameters(), self.discriminator_lr, betas=self.betas),
            self.build_optimizer(self.generator.parameters(), self.lr, betas=self.betas),
        ]

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_dim) to examples in data space (B, *shape)."""
        return self.spec.from_signed(self.generate(z))

    def sample(self, n: int) -> Tensor:
        """``n`` generated examples in data space."""
        require_at_least(0, n=n)
        return self.decode(self.noise(n))


def _require_pairs(model: type[GAN]) -> None:
    """ZooError for a subclass whose generator's loss does not take what all of them take."""
    try:
        inspect.signature(model.generator_loss).bind(None, None, None)
    except TypeError:
        given = inspect.signature(model.generator_loss)
        raise ZooError(
            f"{model.__name__}.generator_loss{given}: (self, real, fake) is needed, D's logits on real and on generated "
            "examples.\nAdd the argument real before fake; a loss of generated examples alone leaves it unused."
        ) from None


def _normalize_spectrum(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        spectral_norm(module)
