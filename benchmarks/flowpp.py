"""Flow++: a training step and sampling by ours and by the formulas as they are written, with the same weights.

Run from the root of the repository:

    OMP_NUM_THREADS=1 python -m benchmarks.flowpp
    python -m benchmarks.flowpp --shapes 3x32x32 --filters 96 --blocks 10 --device cuda

The plain form multiplies attention out, works channels first, takes exp and log of probabilities, and inverts by the
published bisection: over 200 scales to both sides, until no pixel of the batch moves by 1e-12 (``--tolerance``).

Measured with torch 2.13 on a 2-core CPU with nothing else running, 1 thread, the least processor time of 5 rounds:

    2 blocks, 32 components, batch 16, cpu, 1 thread(s)
      images filters    training step of ours, plain         sampling by ours, plain       difference
       1x8x8      32    114.2 ms      156.0 ms  1.37x       59.2 ms      168.4 ms  2.85x   1.4e-05
       1x8x8      96    259.4 ms      270.8 ms  1.04x       80.2 ms      163.7 ms  2.04x   9.4e-06
     1x28x28      32   1080.5 ms     2324.4 ms  2.15x      417.1 ms     1280.6 ms  3.07x   8.7e-06
     1x28x28      96   2779.0 ms     4291.8 ms  1.54x      862.9 ms     1789.2 ms  2.07x   4.5e-05
     3x32x32      32   2444.8 ms     5281.9 ms  2.16x     1086.4 ms     4772.3 ms  4.39x   3.8e-05
     3x32x32      96   4483.0 ms     7631.1 ms  1.70x     1826.3 ms     4880.2 ms  2.67x   9.9e-06
    kept for the backward pass of the published flow, 2 images: 492 MiB, 0.7 with checkpoint

What is gained is attention that isn't multiplied out, so most where there are many pixels, and the mixtures. Convolutions
are the same in both forms, and most of the work with 96 filters. With checkpoint, the images between the couplings are kept
besides, 0.02 MiB for each coupling, and in the backward pass the activations of one of them.
"""

import argparse
import math
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.transforms import ImageFlow, SpaceToDepth


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat((x, -x), 1))


def pointwise(x: Tensor, layer: torch.nn.Linear) -> Tensor:
    return F.conv2d(x, layer.weight[:, :, None, None], layer.bias)


def conv(x: Tensor, layer: torch.nn.Conv2d) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, padding=1)


def gated(x: Tensor, h: Tensor) -> Tensor:
    a, b = h.chunk(2, 1)
    return x + a * torch.sigmoid(b)


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def network(net: torch.nn.Module, x: Tensor) -> Tensor:
    x = conv(x, net.first)
    for i, (c, a) in enumerate(zip(net.convs, net.attentions, strict=True)):
        h = concat_elu(conv(concat_elu(x), c.first))
        x = layer_norm(gated(x, pointwise(F.dropout(h, c.dropout.p, net.training), c.second)), net.norms[2 * i])
        qkv = pointwise(x + net.position.permute(2, 0, 1), a.first)
        q, k, v = qkv.flatten(2).unflatten(1, (3, a.heads, -1)).unbind(1)  # (B, heads, C / heads, HW)
        weights = torch.softmax(q.mT @ k / math.sqrt(q.shape[2]), -1)
        h = (v @ weights.mT).reshape(x.shape)
        x = layer_norm(gated(x, pointwise(F.dropout(h, a.dropout.p, net.training), a.second)), net.norms[2 * i + 1])
    return conv(x, net.last)


def log_cdf(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    v = (x.unsqueeze(2) - means) * torch.exp(-log_scales)
    return torch.logsumexp(F.log_softmax(logits, 2) + F.logsigmoid(v), 2)


def log_density(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    v = (x.unsqueeze(2) - means) * torch.exp(-log_scales)
    return torch.logsumexp(F.log_softmax(logits, 2) + v - log_scales - 2 * F.softplus(v), 2)


def parameters(coupling: torch.nn.Module, given: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    raw = network(coupling.net, given).unflatten(1, (coupling.changed[0], -1))
    logits, means, log_scales = raw[:, :, 2:].chunk(3, 2)
    return torch.tanh(raw[:, :, 0]), raw[:, :, 1], [logits, means, log_scales.clamp(min=-7)]


def couple(coupling: torch.nn.Module, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    s, t, mixture = parameters(coupling, given)
    p = torch.exp(log_cdf(x, *mixture))
    log_det = log_density(x, *mixture) - torch.log(p) - torch.log(1 - p) + s
    return torch.exp(s) * (torch.log(p) - torch.log(1 - p)) + t, log_det.flatten(1).sum(1)


def uncouple(coupling: torch.nn.Module, y: Tensor, given: Tensor, tolerance: float) -> Tensor:
    s, t, mixture = parameters(coupling, given)
    p, scales = torch.sigmoid((y - t) * torch.exp(-s)), mixture[2].exp().sum(2, keepdim=True)
    low, high = (mixture[1] - 200 * scales).amin(2), (mixture[1] + 200 * scales).amax(2)
    x, change = (low + high) / 2, math.inf
    while change > tolerance:
        above = torch.exp(log_cdf(x, *mixture)) > p
        low, high = torch.where(above, low, x), torch.where(above, x, high)
        last, x = x, (low + high) / 2
        change = (x - last).abs().max().item()
    return x


def straightforward(flow: ImageFlow, x: Tensor) -> tuple[Tensor, Tensor]:
    """(z, log_det) of the flow, step by step as in the paper."""
    total = 0
    for part in flow.parts:
        if isinstance(part, SpaceToDepth):
            x, _ = part(x)
            continue
        halves = list(part.split(x))
        for step in part.steps:
            for i, (norm, matrix) in enumerate(zip(step.norms, step.pointwises, strict=True)):
                h = halves[i] * norm.log_scale.exp() + norm.shift
                halves[i] = F.conv2d(h, matrix.weight[:, :, None, None])
                pixels = h.shape[2] * h.shape[3]
                total = total + norm.log_scale.sum() + pixels * torch.log(torch.abs(torch.det(matrix.weight)))
            halves[step.changed], log_det = couple(step.coupling, halves[step.changed], halves[step.given])
            total = total + log_det
        x = part.split.inverse(*halves)
    return x, total


def straightforward_inverse(flow: ImageFlow, z: Tensor, tolerance: float) -> Tensor:
    for part in reversed(flow.parts):
        if isinstance(part, SpaceToDepth):
            z, _ = part.inverse(z)
            continue
        halves = list(part.split(z))
        for step in reversed(part.steps):
            x, given = halves[step.changed], halves[step.given]
            halves[step.changed] = uncouple(step.coupling, x, given, tolerance)
            for i, (norm, matrix) in enumerate(zip(step.norms, step.pointwises, strict=True)):
                h = F.conv2d(halves[i], torch.inverse(matrix.weight)[:, :, None, None])
                halves[i] = (h - norm.shift) / norm.log_scale.exp()
        z = part.split.inverse(*halves)
    return z


def milliseconds(functions: dict, rounds: int) -> dict[str, float]:
    """The least time of each, measured in turns. On the CPU it is processor time, which other programs don't lengthen."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            best[name] = min(best[name], 1e3 * (clock() - start))
    return best


def training_step(forward, flow: ImageFlow, x: Tensor) -> None:
    flow.zero_grad()
    z, log_det = forward(x)
    (z.square().flatten(1).sum(1) / 2 - log_det).mean().backward()


def kept_megabytes(flow: ImageFlow, x: Tensor) -> float:
    """What the forward pass keeps for the backward pass, each tensor counted once."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = flow(x)
    del output
    weights = {parameter.untyped_storage().data_ptr() for parameter in flow.parameters()}
    return sum(size for storage, size in storages.items() if storage not in weights) / 2**20


def compare(shape: str, filters: int, args: argparse.Namespace) -> str:
    """One line of the table: untrained networks of this width, for images of this shape."""
    torch.manual_seed(0)
    size = tuple(int(number) for number in shape.split("x"))
    flow = ImageFlow(size, filters=filters, blocks=args.blocks, components=args.components).to(args.device)
    x = torch.randn(args.batch, *size, device=args.device)
    flow.initialize(x)
    ours = torch.compile(flow) if args.compile else flow
    training_step(ours, flow, x)
    steps = {
        "ours": lambda: training_step(ours, flow, x),
        "plain": lambda: training_step(lambda x: straightforward(flow, x), flow, x),
    }
    training = milliseconds(steps, args.rounds)
    flow.eval()
    with torch.no_grad():
        z = torch.randn(args.batch, *flow.latent_shape, device=args.device)
        samplers = {
            "ours": lambda: flow.inverse(z)[0],
            "plain": lambda: straightforward_inverse(flow, z, args.tolerance),
        }
        sampling = milliseconds(samplers, args.rounds)
        pairs = [*zip(flow(x), straightforward(flow, x), strict=True), [sample() for sample in samplers.values()]]
    difference = max(((a - b).abs() / (1 + b.abs())).max().item() for a, b in pairs)
    columns = [f"{t['ours']:8.1f} ms {t['plain']:10.1f} ms {t['plain'] / t['ours']:5.2f}x" for t in (training, sampling)]
    return f"{shape:>8s} {filters:7d} {columns[0]}   {columns[1]}   {difference:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["1x8x8", "1x28x28", "3x32x32"], help="of the images, CxHxW")
    parser.add_argument("--filters", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tolerance", type=float, default=1e-12, help="of the plain bisection (default: as published)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="ours by torch.compile in training (minutes to compile)")
    args = parser.parse_args()

    where = f"{args.device}, {torch.get_num_threads()} thread(s)"
    print(f"{args.blocks} blocks, {args.components} components, batch {args.batch}, {where}")
    print("  images filters    training step of ours, plain         sampling by ours, plain       difference")
    for shape in args.shapes:
        for filters in args.filters:
            print(compare(shape, filters, args), flush=True)
    kept = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        flow = ImageFlow((3, 32, 32), checkpoint=checkpoint).to(args.device)
        kept.append(kept_megabytes(flow, torch.randn(2, 3, 32, 32, device=args.device)))
    print(f"kept for the backward pass of the published flow, 2 images: {kept[0]:.0f} MiB, {kept[1]:.1f} with checkpoint")


if __name__ == "__main__":
    main()
