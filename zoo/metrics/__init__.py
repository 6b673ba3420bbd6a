"""Scores of trained models, as functions of tensors and as metrics that gather them over batches and processes."""

__all__ = [
    "DCI",
    "IRS",
    "MIG",
    "SAP",
    "SCORES",
    "BetaVAEScore",
    "CodeTable",
    "ELBOSurgery",
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

from zoo.metrics.beta_vae_score import BetaVAEScore, beta_vae_score
from zoo.metrics.dci import DCI, dci
from zoo.metrics.elbo_surgery import ELBOSurgery
from zoo.metrics.explicitness import Explicitness, explicitness
from zoo.metrics.factor_vae_score import FactorVAEScore, factor_vae_score
from zoo.metrics.irs import IRS, irs
from zoo.metrics.mig import MIG, mig
from zoo.metrics.modularity import Modularity, modularity
from zoo.metrics.sap import SAP, sap, sap_continuous
from zoo.metrics.scores import SCORES, PointScores, score_codes
from zoo.metrics.unsupervised import (
    UnsupervisedScores,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
)
from zoo.metrics.votes import CodeTable, FactorData, draw_codes
