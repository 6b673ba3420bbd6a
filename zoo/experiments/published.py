"""Numbers of the literature beside those that were obtained, from one committed file with their sources."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import ZooError
from zoo.experiments.quantities import leaf

__all__ = ["Published", "read_published"]

_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """A number that a paper states.

    Attributes:
        name: What was trained.
        of: The options of the configuration that is the same here, with their values.
        data: Names of the data, or patterns of them.
        metric: The metric.
        value: The number.
        protocol: How it was measured, as far as the source says.
        source: Authors, year, title.
        url: Where the source is.
        note: How it was trained.
    """

    name: str
    of: dict[str, Any]
    data: list[str]
    metric: str
    value: float
    protocol: dict[str, Any]
    source: str
    url: str
    note: str = ""

    def fits(self, protocol: Mapping[str, Any], metrics: Sequence[str]) -> bool:
        """Whether a block of such data has the metric on the test split."""
        named = any(fnmatch.fnmatchcase(str(protocol.get("data")), pattern) for pattern in self.data)
        return named and protocol.get("split") == "test" and self.metric in map(leaf, metrics)


def read_published(path: str | Path = _FILE) -> list[Published]:
    """The entries of the file, in its order.

    Arguments:
        path: Another file of the same kind.

    Raises:
        ZooError: where it can't be read, or an entry lacks its source.

    Example:
        >>> [each.value for each in read_published() if each.name.startswith("Flow++")]
        [3.08]
    """
    try:
        return [Published(**entry) for entry in yaml.safe_load(Path(path).read_text(encoding="utf-8"))]
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ZooError(f"{path} is no list of published numbers: {' '.join(str(error).split())[:300]}") from error
