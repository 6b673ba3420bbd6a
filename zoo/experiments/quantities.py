"""What is known of metrics by their names: which way is better, in which order they are shown."""

import re
from typing import Literal

__all__ = ["better", "leaf", "of_codes", "order"]

# The same leaf means the same quantity in every model. What is not here is shown and never ranked: terms of a model's own
# loss, and scores whose best value lies between the ends, such as c2st or c_t.
_BETTER: tuple[tuple[str, Literal["lower", "higher"]], ...] = (
    (r"nll", "lower"),
    (r"nll_bits_per_dim", "lower"),
    (r"elbo", "higher"),
    (r"bits_per_dim", "lower"),
    (r"(fid|fd|fd_infinity|kid|kd|mmd|mmd_fuse|sliced_wasserstein|mind|kl_modes)(_(?!p_|p$)\w+)?", "lower"),
    (r"(precision|recall|density|coverage|clipped_density|clipped_coverage|modes|near_modes)(_\w+)?", "higher"),
    (
        r"(mig|sap|irs|modularity|beta_vae_score|factor_vae_score|dci_\w+|explicitness\w*"
        r"|dcimig|mig_sup|jemmig|info[mec]|downstream_\w+|udr)(_sampled)?",
        "higher",
    ),
)
_ORDER = tuple(re.compile(pattern) for pattern, _ in _BETTER)


def leaf(metric: str) -> str:
    """The name without its split.

    Example:
        >>> leaf("test/nll"), leaf("nll")
        ('nll', 'nll')
    """
    return metric.rpartition("/")[2]


def better(metric: str) -> Literal["lower", "higher"] | None:
    """Which values of a metric are better; None where it says how, and not how well.

    Example:
        >>> better("test/nll"), better("val/elbo"), better("test/kid_digits_cnn"), better("test/mmd_p_digits_cnn")
        ('lower', 'higher', 'lower', None)
    """
    return next((way for pattern, way in _BETTER if re.fullmatch(pattern, leaf(metric))), None)


def order(metric: str) -> tuple[int, str]:
    """A key to sort metrics by: likelihoods first, then scores of samples and of codes, then the rest."""
    name = leaf(metric)
    place = next((i for i, pattern in enumerate(_ORDER) if pattern.fullmatch(name)), len(_ORDER))
    return place, name


def of_codes(metric: str) -> bool:
    """Whether a metric is a disentanglement score.

    Example:
        >>> of_codes("test/mig"), of_codes("test/nll")
        (True, False)
    """
    return re.fullmatch(_BETTER[-1][0], leaf(metric)) is not None
