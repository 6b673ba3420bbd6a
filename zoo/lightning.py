"""Every private name of Lightning that the zoo asks, and what of Lightning's talk is left out."""

import logging
import warnings

__all__ = ["quiet_lightning"]


def quiet_lightning() -> None:
    """Leave out what Lightning says of itself, and its warnings of things that are right here."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*log_every_n_steps.*",
        ".*LeafSpec.*",
        ".*GPU available but not used.*",
        "Checkpoint directory .*",
        ".*find the monitored key.*",
    ):
        warnings.filterwarnings("ignore", message=message)
