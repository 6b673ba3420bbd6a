"""One run on disk: its folder, its checkpoints, its loggers, and the training that fills them."""

from zoo.runs.training import Run, fit

__all__ = ["Run", "fit"]
