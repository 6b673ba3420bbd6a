"""Training: our Trainer against a loop written by hand, and against pythae, in images per second.

pythae is installed into a folder of its own, beside the pinned torch, and is no requirement of the zoo. From the root:

    python -m pip install --no-deps --target build/pythae pythae==0.1.2 imageio
    OMP_NUM_THREADS=1 PYTHONPATH=build/pythae python -m benchmarks.training

Without pythae on the path, the first table alone is made. Data: 28x28 binary pixels drawn at random, batches of 100.

First table: the Trainer with what every run of the command line has (metrics.csv, progress bar, guard), the same with
``--compile``, and ``for batch in loader: loss = objective(batch); backward; Adam step`` with the same model, batches and
optimizer.

Second table: pythae 0.1.2's own trainer on its own networks (784-512-16 and back, so many parameters in ours too) and loss
(bce), against the VAE with the same networks, as a subclass that overrides ``build_encoder`` and ``build_decoder``; the IAF
has 2 steps of two hidden layers of 128 in both, ours with a gate and a context in addition.

Of each, training steps alone are timed, not what comes before the first. With one CPU thread it is the processor time of
the process, which other work on the machine disturbs less; with several, and on a GPU, the clock.

Measured with torch 2.13 and pytorch-lightning 2.6.6 on a 2-core AMD EPYC, a share of a larger machine that others used as
well, ``--steps 100 --rounds 4``, the row with * ``--steps 500 --rounds 5``; ratios of further runs: benchmarks/README.md.

    1 thread                    Trainer    compiled     by hand   Trainer's time per image
    mlp 512-512                    8194        8721        8454   1.03x
    mlp 64-64                     34605       39445       42753   1.24x
    mlp 64-64 *                   39793       48720       45424   1.14x
    conv                           2875        2394        2895   1.01x

The second table, on another 2-core CPU with nothing else running, ``--steps 100 --rounds 5``, when a Trainer took longer:

    1 thread                       zoo     by hand      pythae   zoo's speed   parameters: zoo, pythae
    VAE                          10289       11486        8831   1.17x         829,232, 829,232
    BetaVAE, beta 4               9004       10328        7956   1.13x         829,232, 829,232
    VAE_IAF                       6187        6475        5905   1.05x         1,005,936, 874,864
    2 threads
    VAE                          11711       14423       11145   1.05x         829,232, 829,232
    BetaVAE, beta 4              13039       15770       11902   1.10x         829,232, 829,232
    VAE_IAF                       7423        9975        9290   0.80x         1,005,936, 874,864

The Trainer takes about 0.3 ms a batch of such a CPU, whatever the network, and some more at a training's end. With
these networks most of a step is matrix products, the same in all three columns: "by hand" bounds what any frame could
reach. What channels_last and bf16-mixed are worth is measured by ``benchmarks.steps``, network by network:
benchmarks/README.md.
"""

import argparse
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from callbacks import MetricsProgressBar, NonFiniteGuard
from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.batches import Unprofiled
from zoo.lightning import quiet_lightning
from zoo.models import VAE
from zoo.nets.mlp import mlp
from zoo.runs.loggers import MetricsCSV
from zoo.schedules import KLSchedule
from zoo.spec import DataSpec

try:
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAE_IAF, BetaVAE, BetaVAEConfig, VAE_IAF_Config, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
except ImportError:
    BaseTrainer = None


NETWORKS = {"mlp 512-512": ("mlp", 512), "mlp 64-64": ("mlp", 64), "conv": ("conv", 512)}  # of the first table


class Pixels(DataModule):
    """As many examples as ``steps`` batches take."""

    spec = DataSpec("pixels", (1, 28, 28), levels=2)

    def __init__(self, steps: int, batch_size: int):
        super().__init__(batch_size, seed=0)
        self.size = steps * batch_size

    def load(self) -> dict[str, Arrays]:
        x = torch.randint(2, (self.size, *self.spec.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return {"train": Arrays(x)}


class PythaeNetworks(VAE):
    """The VAE with pythae's default networks: one hidden layer of 512 units each way."""

    def build_encoder(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(self.spec.dims, self.hidden), nn.ReLU())

    def build_decoder(self) -> nn.Module:
        return mlp((self.latent_dim, self.hidden, self.spec.dims))


class Clock(Callback):
    """The time from the end of the first batch to the end of the last one."""

    def __init__(self, device: str):
        self.device, self.times = device, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 0:
            self.times.append(now(self.device))

    def on_train_end(self, trainer, pl_module) -> None:
        self.times.append(now(self.device))

    @property
    def seconds(self) -> float:
        return self.times[1] - self.times[0]


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def with_trainer(model: VAE, data: Pixels, device: str) -> float:
    """Seconds of one epoch but its first step, as the command line trains."""
    clock = Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            max_epochs=1,
            logger=MetricsCSV(folder),
            callbacks=[NonFiniteGuard(), MetricsProgressBar(), clock],
            profiler=Unprofiled(),
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=folder,
        ).fit(model, data)
    return clock.seconds


def compiled(build: Callable[[], VAE]) -> VAE:
    """The model, to be compiled at its first batch, which isn't timed."""
    model = build()
    model.compile()
    return model


def by_hand(model: VAE, data: Pixels, device: str) -> float:
    """The same batches in the shortest loop."""
    model = model.to(device).train()
    data.setup()
    data.splits["train"] = data.splits["train"].to(torch.device(device))
    adam, start = model.configure_optimizers(), None
    for batch in data.train_dataloader():
        loss, _ = model.objective(batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        start = now(device) if start is None else start
    return now(device) - start


def with_pythae(model: nn.Module, data: Pixels, device: str) -> float:
    """The same examples in pythae's ``BaseTrainer.train_step``, which is one epoch."""
    data.setup()
    x = data.splits["train"].x
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            learning_rate=1e-3,
            per_device_train_batch_size=data.batch_size,
            no_cuda=device == "cpu",
        )
        trainer = BaseTrainer(model, BaseDataset(x.float(), torch.zeros(len(x))), training_config=config)
        trainer.prepare_training()
        start = now(device)
        trainer.train_step(1)
        return (now(device) - start) * (1 - data.batch_size / len(x))  # less one step, as in the others


def rivals() -> dict[str, tuple]:
    """What makes each of the second table's models: pythae's and ours."""
    common = {"input_dim": (1, 28, 28), "latent_dim": 16, "reconstruction_loss": "bce"}
    flow = {"steps": 2, "hidden": 128}
    return {
        "VAE": (lambda: PythaeVAE(VAEConfig(**common)), {}),
        "BetaVAE, beta 4": (lambda: BetaVAE(BetaVAEConfig(**common, beta=4.0)), {"kl": KLSchedule(beta=4)}),
        "VAE_IAF": (
            lambda: VAE_IAF(VAE_IAF_Config(**common, n_made_blocks=2, n_hidden_in_made=2, hidden_size=128)),
            {"posterior": "iaf", "posterior_options": flow},
        ),
    }


def fastest(runs: dict, args: argparse.Namespace) -> dict[str, float]:
    """Images per second of each run's fastest round; the rounds are made in turns."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(args.rounds):
        for name, (train, build) in runs.items():
            torch.manual_seed(0)
            with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
                seconds[name] = min(seconds[name], train(build(), Pixels(args.steps, args.batch), args.device))
    return {name: (args.steps - 1) * args.batch / value for name, value in seconds.items()}


def parameters(model: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()):,}"


def frame(args: argparse.Namespace) -> None:
    """The first table."""
    print("network                     Trainer    compiled     by hand   Trainer's time per image")
    for name in args.networks:
        network, hidden = NETWORKS[name]
        build = partial(VAE, Pixels.spec, network, hidden=hidden)
        speed = fastest(
            {
                "Trainer": (with_trainer, build),
                "compiled": (with_trainer, partial(compiled, build)),
                "hand": (by_hand, build),
            },
            args,
        )
        columns = "  ".join(f"{speed[each]:10.0f}" for each in ("Trainer", "compiled", "hand"))
        print(f"{name:24s} {columns}   {speed['hand'] / speed['Trainer']:.2f}x", flush=True)


def against_pythae(args: argparse.Namespace) -> None:
    """The second table."""
    print("model                          zoo     by hand      pythae   zoo's speed   parameters: zoo, pythae")
    for name, (theirs, options) in rivals().items():
        ours = partial(PythaeNetworks, Pixels.spec, "mlp", **options)
        speed = fastest({"zoo": (with_trainer, ours), "hand": (by_hand, ours), "pythae": (with_pythae, theirs)}, args)
        images = "  ".join(f"{speed[each]:10.0f}" for each in ("zoo", "hand", "pythae"))
        columns = f"{images}   {speed['zoo'] / speed['pythae']:.2f}x"
        print(f"{name:24s} {columns}         {parameters(ours())}, {parameters(theirs())}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="batches in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="rows of the first table")
    parser.add_argument("--table", nargs="+", default=["frame", "pythae"], choices=["frame", "pythae"])
    args = parser.parse_args()
    quiet_lightning()
    logging.disable(logging.INFO)  # pythae's
    print(f"batches of {args.batch}, {args.device}, {torch.get_num_threads()} thread(s); images/s")

    if "frame" in args.table:
        frame(args)
    if "pythae" in args.table and BaseTrainer is not None:
        against_pythae(args)


if __name__ == "__main__":
    main()
