"""Whether the VAE 784-400-40 learns here as in pythae, whose number docs/results.md has beside ours, of the same batches.

    python -m pip install --no-deps --target build/pythae pythae==0.1.2 imageio
    PYTHONPATH=build/pythae:. python results/beside_pythae.py --root FOLDER

Statically binarized MNIST, batches of 100, Adam; the validation ELBO in nats after some epochs, seed 0. Pythae's own model
and loss, with the networks of its script for that number (examples/scripts/reproducibility/vae.py of its repository): pixels
on [0, 1]. Ours with both scales of the encoder's input. Two minutes on one thread.
"""

import argparse
from collections.abc import Callable

import torch
from pythae.models import VAE as PythaeVAE
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn

from datamodules import MNIST
from zoo.models import VAE
from zoo.spec import Batch

LATENTS, UNITS, PIXELS = 40, 400, 784


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = LATENTS
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, UNITS), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(UNITS, LATENTS), nn.Linear(UNITS, LATENTS)

    def forward(self, x: Tensor) -> ModelOutput:
        features = self.features(x)
        return ModelOutput(embedding=self.mean(features), log_covariance=self.log_variance(features))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(LATENTS, UNITS), nn.ReLU(), nn.Linear(UNITS, PIXELS), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z).view(-1, 1, 28, 28))


def pythae(_: MNIST) -> tuple[nn.Module, Callable[[Batch], Tensor]]:
    """Pythae's model, and its loss of a batch."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENTS, reconstruction_loss="bce")
    model = PythaeVAE(config, encoder=Encoder(), decoder=Decoder())
    return model, lambda batch: model({"data": batch.x.float()}).loss


def ours(scale: str) -> Callable[[MNIST], tuple[nn.Module, Callable[[Batch], Tensor]]]:
    """The zoo's, with a scale of what its encoder sees."""

    def build(data: MNIST) -> tuple[nn.Module, Callable[[Batch], Tensor]]:
        model = VAE(data.spec, "mlp", LATENTS, hidden=[UNITS], input_scale=scale)
        return model, lambda batch: model.objective(batch)[0]

    return build


def main() -> None:
    """Train each, and print its ELBO."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder with MNIST's files")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    for name, build in {"pythae": pythae, "ours, [0, 1]": ours("unit"), "ours, [-1, 1]": ours("signed")}.items():
        data = MNIST(root=args.root, binarize="static", batch_size=100, eval_batch_size=500, seed=0)
        data.setup()
        torch.manual_seed(0)
        model, loss_of = build(data)
        adam = torch.optim.Adam(model.parameters(), args.lr)
        for _ in range(args.epochs):
            for batch in data.train_dataloader():
                loss = loss_of(batch)
                adam.zero_grad()
                loss.backward()
                adam.step()
        model.eval()
        with torch.no_grad():
            parts = [(loss_of(batch).item() * len(batch.x), len(batch.x)) for batch in data.val_dataloader()]
        print(f"{name:14s} ELBO {-sum(loss for loss, _ in parts) / sum(n for _, n in parts):.2f}", flush=True)


if __name__ == "__main__":
    main()
