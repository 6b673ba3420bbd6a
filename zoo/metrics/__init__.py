"""Scores of trained models, as functions of tensors, and metrics that gather what they need over batches and processes."""

from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.metrics.disentanglement import (
    SCORES,
    CachedEncoder,
    FactorData,
    PointScores,
    PointsMetric,
    beta_vae_score,
    dci,
    draw_codes,
    explicitness,
    factor_vae_score,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
    irs,
    mig,
    modularity,
    sap,
    sap_continuous,
    score_codes,
)
from zoo.metrics.elbo_surgery import ELBOSurgery
from zoo.metrics.importance_weighting import Bound, importance_weighted_bound

__all__ = [
    "SCORES",
    "Bound",
    "CachedEncoder",
    "ELBOSurgery",
    "FactorData",
    "PointScores",
    "PointsMetric",
    "beta_vae_score",
    "bits_per_dim",
    "dci",
    "draw_codes",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
    "importance_weighted_bound",
    "irs",
    "mig",
    "modularity",
    "sap",
    "sap_continuous",
    "score_codes",
]
