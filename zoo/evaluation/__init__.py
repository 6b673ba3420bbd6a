"""Model and data to numbers: test metrics, likelihood, samples, disentanglement. ``evaluate`` computes all of them."""

from zoo.evaluation.disentanglement_report import DisentanglementReport, disentanglement_report
from zoo.evaluation.evaluation import Evaluation, evaluate
from zoo.evaluation.likelihood import evaluate_likelihood
from zoo.evaluation.samples import sample, save_samples

__all__ = [
    "DisentanglementReport",
    "Evaluation",
    "disentanglement_report",
    "evaluate",
    "evaluate_likelihood",
    "sample",
    "save_samples",
]
