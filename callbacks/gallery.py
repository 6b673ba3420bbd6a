"""Where pictures go: a file in the run folder, and every logger that shows images."""

from abc import abstractmethod
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from zoo.errors import ZooError
from zoo.lightning import is_fast_dev_run
from zoo.models.base import GenerativeModule
from zoo.plots import save_gif
from zoo.spec import Batch

__all__ = ["Gallery", "keep_picture"]


class Gallery(Callback):
    """Draws at every validation and at the end of training; each picture is kept, and goes to any logger that shows images.

    Files: ``<run folder>/pictures/<name>-<batches>.png`` and ``<name>.png``, the newest; ``.gif`` if it moves. Drawing
    happens on rank 0, in evaluation mode, with a random stream of its own, so that pictures of one run are comparable and
    training does not depend on whether they are drawn.

    Arguments:
        name: The file's and the logged image's name.
        seed: Seed of the pictures' own randomness.
    """

    def __init__(self, name: str, seed: int = 0):
        self.name, self.seed = name, seed
        self.held_out: Batch | None = None  # the first batch that is validated
        self._drawn_at = -1

    @abstractmethod
    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | list[Image.Image] | None:
        """The picture, or the frames of an animation; None where the model can't give one."""

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first examples that are validated."""
        if batch_idx == 0:
            self.held_out = batch

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw with the weights that are validated."""
        if not trainer.sanity_checking:
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last state, unless validation just did."""
        if self._drawn_at != trainer.global_step:
            self._show(trainer, pl_module)

    @torch.no_grad()
    def _show(self, trainer: Trainer, model: LightningModule) -> None:
        if not trainer.is_global_zero or is_fast_dev_run(trainer):
            return
        training = model.training
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            model.eval()
            # Lightning's hooks know of LightningModule alone; what a gallery needs of a model, it asks for itself.
            try:
                image = self.draw(trainer, cast(GenerativeModule, model))
            except ZooError as error:  # as of samples that are no numbers; training is not stopped for a picture
                rank_zero_warn(f"no picture {self.name} after batch {trainer.global_step}: {error}")
                image = None
            model.train(training)
        if image is None:
            return
        self._drawn_at = trainer.global_step
        keep_picture(trainer, self.name, image)


def keep_picture(trainer: Trainer, name: str, image: Image.Image | list[Image.Image]) -> None:
    """Write a picture, or the frames of an animation, into the run folder and show it to the loggers; on rank 0."""
    if is_fast_dev_run(trainer):
        return
    folder = Path(trainer.default_root_dir) / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    numbered = f"{name}-{trainer.global_step:07d}"
    if isinstance(image, list):
        for stem in (numbered, name):
            save_gif(image, folder / f"{stem}.gif")
        for logger in trainer.loggers:
            if hasattr(logger, "log_video"):
                path = str(folder / f"{numbered}.gif")
                logger.log_video(name, [path], step=trainer.global_step, format=["gif"])
        return
    for stem in (numbered, name):
        image.save(folder / f"{stem}.png")
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(name, [image], step=trainer.global_step)
        elif (experiment := getattr(logger, "experiment", None)) is not None and hasattr(experiment, "add_image"):
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            pixels = pixels.view(image.height, image.width, 3)
            experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
