"""Scores of samples beside real examples: tests, distances, neighborhoods, memorization and modes."""

from zoo.metrics.two_sample.c2st import ClassifierTest, c2st
from zoo.metrics.two_sample.clipped_density_coverage import ClippedDensityCoverage, clipped_density_coverage
from zoo.metrics.two_sample.frechet_distance import frechet_distance, frechet_distance_infinity
from zoo.metrics.two_sample.memorization import authenticity, c_t
from zoo.metrics.two_sample.mmd import kernel_distance, mmd
from zoo.metrics.two_sample.mmd_fuse import mmd_fuse
from zoo.metrics.two_sample.mode_coverage import (
    ClassCoverage,
    ModeCoverage,
    class_coverage,
    mode_coverage,
    stacked_classes,
)
from zoo.metrics.two_sample.permutations import TwoSampleTest
from zoo.metrics.two_sample.prdc import PRDC, prdc
from zoo.metrics.two_sample.sliced_wasserstein import mind, sliced_wasserstein

__all__ = [
    "PRDC",
    "ClassCoverage",
    "ClassifierTest",
    "ClippedDensityCoverage",
    "ModeCoverage",
    "TwoSampleTest",
    "authenticity",
    "c2st",
    "c_t",
    "class_coverage",
    "clipped_density_coverage",
    "frechet_distance",
    "frechet_distance_infinity",
    "kernel_distance",
    "mind",
    "mmd",
    "mmd_fuse",
    "mode_coverage",
    "prdc",
    "sliced_wasserstein",
    "stacked_classes",
]
