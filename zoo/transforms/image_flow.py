"""Flow++: normalization, pointwise matrix and coupling, again and again, on two halves of an image."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.functional import pad

from zoo.errors import ZooError
from zoo.nets.gated_attention import ContextNet
from zoo.nets.module_list import module_list
from zoo.precision import autocast_while_training
from zoo.transforms.actnorm import ActNorm
from zoo.transforms.base import Transform
from zoo.transforms.coupling import Coupling
from zoo.transforms.invertible_conv import Invertible1x1Conv
from zoo.transforms.splits import ChannelSplit, CheckerboardSplit, ColumnSplit, SpaceToDepth, Split

__all__ = ["ImageFlow"]

Shape = tuple[int, int, int]
Norm = Literal["element", "channel"]
SPLITS: dict[str, Callable[[Shape], Split]] = {
    "columns": ColumnSplit,
    "checkerboard": CheckerboardSplit,
    "channels": ChannelSplit,
}


def _split(shape: Shape, *kinds: str) -> Split:
    """The first of these splits that the shape allows."""
    for kind in kinds:
        try:
            return SPLITS[kind](shape)
        except ZooError:
            continue
    raise ZooError(
        f"images of shape {tuple(shape)} can't be split in two: give at least two columns or two channels, "
        "or an even number of rows"
    )


class _Step(nn.Module):
    """ActNorm and pointwise matrix of both halves, then a coupling: the second given the first, or in ``reverse``."""

    def __init__(
        self, shapes: tuple[Shape, Shape], reverse: bool, norm: Norm, checkpoint: bool, coupling: dict[str, Any]
    ) -> None:
        super().__init__()
        self.norms = module_list(ActNorm(shape, norm) for shape in shapes)
        self.pointwises = module_list(Invertible1x1Conv(shape[0]) for shape in shapes)
        self.given, self.changed = (1, 0) if reverse else (0, 1)
        self.coupling = Coupling(shapes[self.given], shapes[self.changed], **coupling)
        self.checkpoint = checkpoint

    def _couple(
        self, direction: Callable[..., tuple[Tensor, Tensor]], x: Tensor, given: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.checkpoint and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(direction, x, given, context, use_reentrant=False)
        return direction(x, given, context)

    def forward(self, halves: list[Tensor], context: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        halves, log_dets = list(halves), []
        for i, (norm, pointwise) in enumerate(zip(self.norms, self.pointwises, strict=True)):
            for f in (norm, pointwise):
                halves[i], log_det = f(halves[i])
                log_dets.append(log_det)
        x, log_det = self._couple(self.coupling.forward, halves[self.changed], halves[self.given], context)
        halves[self.changed] = x
        return halves, [*log_dets, log_det]

    def inverse(self, halves: list[Tensor], context: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        halves = list(halves)
        x, log_det = self._couple(self.coupling.inverse, halves[self.changed], halves[self.given], context)
        halves[self.changed], log_dets = x, [log_det]
        for i, (norm, pointwise) in enumerate(zip(self.norms, self.pointwises, strict=True)):
            for f in (pointwise, norm):
                halves[i], log_det = f.inverse(halves[i])
                log_dets.append(log_det)
        return halves, log_dets


class _Section(Transform):
    """The steps on one split, with one network that reads the context for all of them."""

    def __init__(
        self, split: Split, steps: int, context_channels: int, norm: Norm, checkpoint: bool, coupling: dict[str, Any]
    ) -> None:
        super().__init__()
        self.split = split
        self.context: ContextNet | None = None
        features = 32 if context_channels else 0
        if context_channels:
            halves = 1 if isinstance(split, ChannelSplit) else 2
            self.context = ContextNet(halves * context_channels, features, dropout=coupling["dropout"])
        coupling = coupling | {"context_channels": features}
        self.steps = module_list(_Step(split.shapes, k % 2 == 1, norm, checkpoint, coupling) for k in range(steps))

    def _read(self, context: Tensor | None) -> Tensor | None:
        if self.context is None or context is None:
            return None
        if not isinstance(self.split, ChannelSplit):
            a, b = self.split(context)
            context = torch.cat((a, pad(b, (0, a.shape[-1] - b.shape[-1]))), 1)
        with autocast_while_training(self, context.device.type):
            return self.context(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves, total, context = self.split(x), x.new_zeros(len(x)), self._read(context)
        for step in self.steps:
            halves, log_dets = step(halves, context)
            total = total + sum(log_dets[1:], log_dets[0])
        return self.split.inverse(*halves), total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves, total, context = self.split(y), y.new_zeros(len(y)), self._read(context)
        for step in reversed(self.steps):
            halves, log_dets = step.inverse(halves, context)
            total = total + sum(log_dets[1:], log_dets[0])
        return self.split.inverse(*halves), total


class ImageFlow(Transform):
    r"""Creates an invertible map of images, (B, C, H, W), to noise of the same number of dimensions: Flow++.

    A step is ActNorm, :class:`Invertible1x1Conv` and :class:`Coupling` on two halves of the image; the halves take turns
    in being changed. The steps stand in three sections: on a checkerboard split, after :class:`SpaceToDepth` on a channel
    split, and on a checkerboard split again. Nothing is factored out. As it starts, the map is close to its norms alone.

    The "checkerboard" of the published model is the split into even and odd columns, here ``split="columns"``;
    ``"checkerboard"`` is the true one. Space to depth is left out where a side is odd, or when the last two sections are
    empty. A section whose split its images don't allow takes the other kind: one channel is split by columns, a
    single column by channels, a single column of one channel by rows, and a checkerboard with two odd sides by columns.

    With ``coupling="affine"``, ``norm="channel"`` and ``attention=False`` it is a flow of the kind of RealNVP and Glow.

    A context, (B, c, H, W), is split as the image is, and read once for each section by a
    :class:`zoo.nets.gated_attention.ContextNet`.

    Shapes: x (B, C, H, W), z (B, \*latent_shape), context (B, c, H, W), log_det (B,). Units: nats.

    Arguments:
        shape: (C, H, W) of the images.
        couplings: The number of steps in each of the three sections.
        coupling: ``"mixture_logistic"``, ``"affine"`` or ``"spline"``.
        filters: Channels of the couplings' networks.
        blocks: Blocks of the couplings' networks.
        components: Components of the mixtures, or bins of the splines.
        attention: Whether the networks have attention; without it, see :class:`zoo.nets.gated_attention.GatedAttention`.
        heads: Heads of the attention.
        dropout: Of the networks.
        split: ``"columns"`` or ``"checkerboard"``.
        context_channels: Channels c of the context; 0 for none.
        norm: Scale and shift of the ActNorms per ``"element"`` or per ``"channel"``.
        checkpoint: Whether a coupling's activations are computed again in the backward pass, not kept: less memory,
            more time, equal gradients.

    Raises:
        ZooError: if an option is none of those named, if ``couplings`` aren't three numbers from 0, if ``filters`` isn't a
            multiple of ``heads``, if the images are a single number, or if there are context channels and no context is
            given.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019)
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> flow = ImageFlow((3, 8, 8), (2, 2, 1), filters=16, blocks=1, components=4).eval()
        >>> x = torch.rand(16, 3, 8, 8)
        >>> flow.initialize(x)
        >>> z, log_det = flow(x)
        >>> z.shape, log_det.shape
        (torch.Size([16, 12, 4, 4]), torch.Size([16]))
        >>> torch.allclose(flow.inverse(z)[0], x, atol=1e-4)
        True
    """

    def __init__(
        self,
        shape: Shape,
        couplings: Sequence[int] = (4, 2, 3),
        coupling: Literal["mixture_logistic", "affine", "spline"] = "mixture_logistic",
        filters: int = 96,
        blocks: int = 10,
        components: int = 32,
        attention: bool = True,
        heads: int = 4,
        dropout: float = 0.2,
        split: Literal["columns", "checkerboard"] = "columns",
        context_channels: int = 0,
        norm: Norm = "element",
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if split not in ("columns", "checkerboard"):
            raise ZooError(f"split={split!r}: give 'columns' or 'checkerboard'")
        if len(couplings) != 3 or min(couplings) < 0:
            raise ZooError(f"couplings={tuple(couplings)}: give three numbers of steps, each 0 or more")
        network = {"filters": filters, "blocks": blocks, "attention": attention, "heads": heads, "dropout": dropout}
        options: dict[str, Any] = {"kind": coupling, "components": components, **network}

        def section(shape: Shape, steps: int, *splits: str) -> list[Transform]:
            if not steps:
                return []
            depth = shape[0] // c  # 4 after space to depth, which the context goes through too
            return [_Section(_split(shape, *splits), steps, depth * context_channels, norm, checkpoint, options)]

        c, h, w = shape
        shape = (c, h, w)  # a tuple, whatever was given
        before, by_channels, after = couplings
        parts = section(shape, before, split, "columns", "channels", "checkerboard")
        if (by_channels or after) and h % 2 == 0 and w % 2 == 0:
            parts.append(SpaceToDepth())
            shape = (4 * c, h // 2, w // 2)
        parts += section(shape, by_channels, "channels", split, "columns", "checkerboard")
        parts += section(shape, after, split, "columns", "channels", "checkerboard")
        self.parts, self.latent_shape, self.context_channels = module_list(parts), shape, context_channels

    def _contexts(self, context: Tensor | None) -> list[Tensor | None]:
        """The context in the layout of each part."""
        if not self.context_channels:
            return [None] * len(self.parts)
        if context is None:
            raise ZooError(f"a context of {self.context_channels} channels is needed: give context, (B, c, H, W)")
        contexts: list[Tensor | None] = []
        for part in self.parts:
            contexts.append(context)
            if isinstance(part, SpaceToDepth):
                context, _ = part(context)
        return contexts

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for part, layout in zip(self.parts, self._contexts(context), strict=True):
            x, log_det = part(x, layout)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(len(y))
        for part, layout in reversed(list(zip(self.parts, self._contexts(context), strict=True))):
            y, log_det = part.inverse(y, layout)
            total = total + log_det
        return y, total

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Sets every ActNorm, one after another, from one batch of images; those that are initialized stay as they are."""
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        hooks = [norm.register_forward_pre_hook(_initialize) for norm in norms]
        try:
            self(x, context)
        finally:
            for hook in hooks:
                hook.remove()


def _initialize(norm: ActNorm, inputs: tuple[Tensor]) -> None:
    """Before the forward pass of an ActNorm: from what it is about to see."""
    norm.initialize(inputs[0])
