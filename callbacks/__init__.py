"""What can be added to any model's training: pictures, averages of weights, guards. Imported when first asked for."""

import importlib
from typing import Any

_HOME = {
    "AnimatedTraversals": "latents",
    "DisentanglementScores": "disentanglement_scores",
    "ExponentialMovingAverage": "ema",
    "MetricsProgressBar": "metrics_progress_bar",
    "FinalValidation": "final_validation",
    "Interpolations": "latents",
    "LatentTraversals": "latents",
    "NonFiniteGuard": "non_finite_guard",
    "Reconstructions": "reconstructions",
    "SampleGrid": "sample_grid",
    "TemperatureSamples": "sample_grid",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"callbacks.{_HOME[name]}"), name)
    raise AttributeError(f"module 'callbacks' has no attribute {name!r}; it has {', '.join(__all__)}")
