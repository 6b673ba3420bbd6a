"""Trains every registered model for two steps on two CPU processes: what each process has; run by a test."""

from pathlib import Path

from launch import main
from pytorch_lightning import Callback, Trainer, seed_everything
from test_contract import SMALL, SPECS, Made

from zoo import registry
from zoo.errors import ZooError


class Examples(Callback):
    """The examples that this process was given, as bytes."""

    def __init__(self):
        self.seen: set[bytes] = set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen |= {x.numpy().tobytes() for x in batch.x}


def build(name: str):
    """The registered model for the first data it takes, of those with more than one level's examples all different."""
    for spec in reversed(SPECS[1:]):
        try:
            seed_everything(0, verbose=False)
            return registry.find_class(registry.MODELS[name].path)(spec, **SMALL.get(name, {}))
        except ZooError:
            continue
    raise SystemExit(f"{name} takes none of the specs")


def train(folder: Path) -> dict[str, dict]:
    """By model: the weights, those at the start, and the examples that this process was given."""
    found = {}
    for name in registry.MODELS:
        model, examples = build(name), Examples()
        start = {key: weight.clone() for key, weight in model.state_dict().items()}
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy=model.strategy,
            max_steps=2,
            callbacks=[examples],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=folder,
        )
        trainer.fit(model, Made(model.spec))
        found[name] = {"weights": model.state_dict(), "start": start, "examples": examples.seen}
    return found


if __name__ == "__main__":
    main(train)
