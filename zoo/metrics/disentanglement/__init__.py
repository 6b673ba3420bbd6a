"""Scores of disentanglement, as functions of codes and factors, and what gathers these over batches and processes."""

from zoo.metrics.disentanglement.beta_vae_score import beta_vae_score
from zoo.metrics.disentanglement.dci import dci
from zoo.metrics.disentanglement.downstream import downstream, downstream_accuracy
from zoo.metrics.disentanglement.explicitness import explicitness
from zoo.metrics.disentanglement.factor_sampling import CachedEncoder, FactorData, draw_codes
from zoo.metrics.disentanglement.factor_vae_score import factor_vae_score
from zoo.metrics.disentanglement.infomec import infoc, infoe, infom, infomec
from zoo.metrics.disentanglement.information_gaps import dcimig, jemmig, mig_sup
from zoo.metrics.disentanglement.irs import irs
from zoo.metrics.disentanglement.mig import mig
from zoo.metrics.disentanglement.modularity import modularity
from zoo.metrics.disentanglement.points import PointsMetric
from zoo.metrics.disentanglement.sap import sap, sap_continuous
from zoo.metrics.disentanglement.scores import DOWNSTREAM_SCORES, SCORES, PointScores, score_codes
from zoo.metrics.disentanglement.udr import UDR, udr
from zoo.metrics.disentanglement.unsupervised import (
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
)

__all__ = [
    "DOWNSTREAM_SCORES",
    "SCORES",
    "UDR",
    "CachedEncoder",
    "FactorData",
    "PointScores",
    "PointsMetric",
    "beta_vae_score",
    "dci",
    "dcimig",
    "downstream",
    "downstream_accuracy",
    "draw_codes",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
    "infoc",
    "infoe",
    "infom",
    "infomec",
    "irs",
    "jemmig",
    "mig",
    "mig_sup",
    "modularity",
    "sap",
    "sap_continuous",
    "score_codes",
    "udr",
]
