"""The analysis of a study: many trainings of several methods, strengths and seeds, and what may be said of their scores."""

from zoo.experiments.analysis.analysis import Analysis, analyze
from zoo.experiments.analysis.runs import ScoredRun

__all__ = ["Analysis", "ScoredRun", "analyze"]
