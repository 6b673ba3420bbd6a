"""Model and data to numbers: test metrics, likelihood, samples, disentanglement. ``evaluate`` computes all of them."""

from zoo.evaluation.codes import encode
from zoo.evaluation.disentanglement_report import DisentanglementReport, disentanglement_report
from zoo.evaluation.evaluation import Evaluation, evaluate
from zoo.evaluation.features import (
    ClassifierFeatures,
    EfficientNetFeatures,
    Features,
    ModuleFeatures,
    RawFeatures,
    StackedFeatures,
    features_for,
)
from zoo.evaluation.likelihood import evaluate_likelihood
from zoo.evaluation.neighbors import draw_neighbors, nearest_training_examples
from zoo.evaluation.sample_report import SampleReport, sample_report
from zoo.evaluation.samples import draw_samples, sample, save_samples
from zoo.evaluation.udr import evaluate_udr

__all__ = [
    "ClassifierFeatures",
    "DisentanglementReport",
    "EfficientNetFeatures",
    "Evaluation",
    "Features",
    "ModuleFeatures",
    "RawFeatures",
    "SampleReport",
    "StackedFeatures",
    "disentanglement_report",
    "draw_neighbors",
    "draw_samples",
    "encode",
    "evaluate",
    "evaluate_likelihood",
    "evaluate_udr",
    "features_for",
    "nearest_training_examples",
    "sample",
    "sample_report",
    "save_samples",
]
