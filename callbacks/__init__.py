"""What can be added to any model's training: pictures, averages of weights, guards. Imported when first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.disentanglement_scores import DisentanglementScores
    from callbacks.ema import ExponentialMovingAverage
    from callbacks.final_validation import FinalValidation
    from callbacks.graceful_stop import GracefulStop, TrainingStopped
    from callbacks.latents import AnimatedTraversals, Interpolations, LatentTraversals
    from callbacks.metrics_progress_bar import MetricsProgressBar
    from callbacks.non_finite_guard import NonFiniteGuard
    from callbacks.reconstructions import Reconstructions
    from callbacks.sample_grid import SampleGrid, TemperatureSamples
    from callbacks.sample_scores import SampleScores
    from callbacks.training_estimate import TrainingEstimate

__all__ = [
    "AnimatedTraversals",
    "DisentanglementScores",
    "ExponentialMovingAverage",
    "FinalValidation",
    "GracefulStop",
    "Interpolations",
    "LatentTraversals",
    "MetricsProgressBar",
    "NonFiniteGuard",
    "Reconstructions",
    "SampleGrid",
    "SampleScores",
    "TemperatureSamples",
    "TrainingEstimate",
    "TrainingStopped",
]

_HOME = {
    "AnimatedTraversals": "latents",
    "DisentanglementScores": "disentanglement_scores",
    "ExponentialMovingAverage": "ema",
    "FinalValidation": "final_validation",
    "GracefulStop": "graceful_stop",
    "Interpolations": "latents",
    "LatentTraversals": "latents",
    "MetricsProgressBar": "metrics_progress_bar",
    "NonFiniteGuard": "non_finite_guard",
    "Reconstructions": "reconstructions",
    "SampleGrid": "sample_grid",
    "SampleScores": "sample_scores",
    "TemperatureSamples": "sample_grid",
    "TrainingEstimate": "training_estimate",
    "TrainingStopped": "graceful_stop",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"callbacks.{_HOME[name]}"), name)
    raise AttributeError(f"module 'callbacks' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
