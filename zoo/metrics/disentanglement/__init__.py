"""Scores of disentanglement, as functions of codes and factors, and as metrics that gather them."""

__all__ = [
    "DCI",
    "IRS",
    "MIG",
    "SAP",
    "SCORES",
    "BetaVAEScore",
    "CachedEncoder",
    "Explicitness",
    "FactorData",
    "FactorVAEScore",
    "Modularity",
    "PointScores",
    "UnsupervisedScores",
    "beta_vae_score",
    "dci",
    "draw_codes",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
    "irs",
    "mig",
    "modularity",
    "sap",
    "sap_continuous",
    "score_codes",
]

from zoo.metrics.disentanglement.beta_vae_score import BetaVAEScore, beta_vae_score
from zoo.metrics.disentanglement.dci import DCI, dci
from zoo.metrics.disentanglement.explicitness import Explicitness, explicitness
from zoo.metrics.disentanglement.factor_sampling import CachedEncoder, FactorData, draw_codes
from zoo.metrics.disentanglement.factor_vae_score import FactorVAEScore, factor_vae_score
from zoo.metrics.disentanglement.irs import IRS, irs
from zoo.metrics.disentanglement.mig import MIG, mig
from zoo.metrics.disentanglement.modularity import Modularity, modularity
from zoo.metrics.disentanglement.sap import SAP, sap, sap_continuous
from zoo.metrics.disentanglement.scores import SCORES, PointScores, score_codes
from zoo.metrics.disentanglement.unsupervised import (
    UnsupervisedScores,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
)
