"""The file of a study: blocks of settings, each a grid, with their seeds, as the commands that they stand for."""

import fnmatch
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo import registry
from zoo.errors import ZooError
from zoo.experiments.study_runs import StudyRun, arguments
from zoo.files import read_yaml

__all__ = ["Execution", "Setting", "StudyFile", "read_study"]

_KEYS = ("out", "fit", "evaluate", "seeds", "blocks", "compare", "analysis", "run")
_BLOCK = ("name", "fit", "evaluate", "seeds", "grid")
_COMPARE = ("by", "metrics", "sort", "filter", "baseline", "published")
_OURS = {  # options of zoo.fit that the study gives
    "seed": "seeds", "seed_everything": "seeds", "seeds": "seeds", "stack": "run.stack",
    "name": "a block's name", "trainer.default_root_dir": "out",
    "gpus": "run.gpus", "ckpt_path": "nothing: runs go on by themselves", "resume": "nothing: runs go on by themselves",
}  # fmt: skip


@dataclass(frozen=True)
class Execution:
    """How runs are executed, which changes none of their settings.

    Attributes:
        workers: How many runs at a time, on each node of a cluster; None for one for each ``threads`` cores, or, on GPUs,
            ``per_gpu`` for each.
        threads: Threads of a run.
        gpus: The GPUs of a node, as a number, -1 for all, or a list of them; 0 for the CPU; None for all that there are.
        per_gpu: How many runs share a GPU; workers beyond are on the CPU. None: as many as there are workers.
        stack: Whether seeds of a setting are trained as one model, where that can be; their evaluations are separate.
        retries: How often a run that failed or diverged is tried again.
        warm: Whether a run is forked from a process that has imported torch; else each of its commands imports anew.
        minutes: After how many minutes the study stops, to be gone on with; None for no limit.
        provider: Where workers are: ``name`` and options of a provider of Parsl.
    """

    workers: int | None = None
    threads: int = 1
    gpus: int | list[int] | None = None
    per_gpu: int | None = None
    stack: bool = False
    retries: int = 1
    warm: bool = True
    minutes: float | None = None
    provider: Mapping[str, Any] = field(default_factory=lambda: {"name": "local"})


@dataclass(frozen=True)
class Setting:
    """One model with its options on its data, trained with several seeds: a row of the comparison.

    Attributes:
        name: Its name, which those of its runs begin with.
        block: The name of its block.
        values: What the block's grid gave it.
        fit: Options of ``zoo.fit``, without seed and name.
        evaluate: Options of ``zoo.evaluate``, and ``checkpoint``; None where its runs are not evaluated.
        seeds: The seeds.
    """

    name: str
    block: str
    values: Mapping[str, Any]
    fit: Mapping[str, Any]
    evaluate: Mapping[str, Any] | None
    seeds: tuple[int, ...]

    def run(self, seed: int, root: Path) -> StudyRun:
        """The run with a seed.

        Arguments:
            seed: The seed.
            root: Where run folders are made.
        """
        name = f"{self.name}-s{seed}"
        fit = {"wandb": "off", **self.fit, "seed": seed, "name": name, "trainer.default_root_dir": root}
        checkpoint, evaluate = None, None
        if self.evaluate is not None:
            checkpoint = self.evaluate.get("checkpoint")
            evaluate = arguments({key: value for key, value in self.evaluate.items() if key != "checkpoint"})
            if "data.root" in self.fit and "data.root" not in self.evaluate:
                evaluate += arguments({"data.root": self.fit["data.root"]})
        return StudyRun(name, self.name, seed, str(root), arguments(fit), evaluate, checkpoint)


@dataclass(frozen=True)
class StudyFile:
    """What the file of a study says.

    Attributes:
        path: The file.
        out: The study's folder.
        settings: Its settings, in the order of the file.
        compare: Options of :class:`zoo.experiments.comparison.Comparison`.
        analysis: Whether scores of disentanglement are analyzed too, by :func:`zoo.experiments.analysis.analyze`.
        execution: How runs are executed.
    """

    path: Path
    out: Path
    settings: tuple[Setting, ...]
    compare: Mapping[str, Any]
    analysis: bool
    execution: Execution

    @property
    def runs(self) -> list[StudyRun]:
        """All runs: first those with the first seed of each setting, so that half a study compares all of them."""
        most = max(len(each.seeds) for each in self.settings)
        root = self.out / "runs"
        return [each.run(each.seeds[i], root) for i in range(most) for each in self.settings if i < len(each.seeds)]


def read_study(
    path: str | Path,
    *,
    out: str | Path | None = None,
    changes: Iterable[str] = (),
    seeds: int | None = None,
    only: Sequence[str] = (),
    **execution: Any,
) -> StudyFile:
    """Reads the file of a study.

    Arguments:
        path: The file, or the name of one that comes along, ``studies/smoke``.
        out: The study's folder, in place of the file's; ``studies/<name of the file>`` if neither says one.
        changes: Options for all settings, over those of the file: ``data.root=~/data``, ``evaluate.samples=1000``.
        seeds: So many seeds, in place of the file's.
        only: Patterns of settings' names; if given, the others are left out.
        execution: Attributes of :class:`Execution` in place of the file's; None for the file's.

    Returns:
        The study.

    Raises:
        ZooError: for a name that is none, with the nearest one, and for a value that is not accepted.

    Example:
        >>> study = read_study("studies/smoke", seeds=1)
        >>> study.runs[0].name
        'beta_vae-beta=0.5-s0'
    """
    path = registry.config_file(str(path))
    content = read_yaml(path)
    _known(str(path), content, _KEYS)
    top = {key: _section(f"{path}: {key}", content.get(key)) for key in ("fit", "compare", "run")}
    changed_fit, changed_evaluate = _changes(changes)
    default_seeds = _seeds(str(path), content.get("seeds", 1))
    blocks = content.get("blocks")
    if not isinstance(blocks, list) or not blocks:
        raise ZooError(f"{path}: no blocks.\nA study has a list of them, each with the options of its runs: docs/study.md.")
    settings: list[Setting] = []
    for number, block in enumerate(blocks, 1):
        where = f"{path}: block {block.get('name', number) if isinstance(block, dict) else number}"
        block = _section(where, block)
        _known(where, block, _BLOCK)
        fit = {**top["fit"], **_section(f"{where}: fit", block.get("fit"))}
        evaluate = _evaluate(where, content.get("evaluate"), block.get("evaluate"), changed_evaluate)
        own = (
            tuple(range(seeds))
            if seeds is not None
            else _seeds(where, block["seeds"])
            if "seeds" in block
            else default_seeds
        )
        for values in _grid(where, block.get("grid")):
            options = {**fit, **values, **changed_fit}
            _require_fit(where, options)
            base = str(block.get("name") or options.get("model") or _stem(options.get("config")))
            parts = [base, *(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in values.items())]
            name = re.sub(r"[^\w.+=-]+", "_", "-".join(parts))
            settings.append(Setting(name, base, values, options, evaluate, own))
    _require_names(path, settings)
    if only:
        settings = _chosen(settings, only)
    _known(f"{path}: compare", top["compare"], _COMPARE)
    place = Path(out or content.get("out") or Path("studies", path.stem)).expanduser()
    if not isinstance(analysis := content.get("analysis", False), bool):
        raise ZooError(f"{path}: analysis {analysis}: true or false is accepted.")
    return StudyFile(path, place, tuple(settings), top["compare"], analysis, _execution(path, top["run"], execution))


def _known(where: str, section: Mapping[str, Any], known: Sequence[str]) -> None:
    """ZooError for the first name in a section that is none."""
    for name in section:
        if name not in known:
            raise ZooError(f"{where}: no setting {name}.{registry.suggestion(name, known)}\nThere are {', '.join(known)}.")


def _section(where: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ZooError(f"{where} is {str(value)[:100]}: names with values are needed, such as `lr: 0.001`.")
    return dict(value)


def _seeds(where: str, value: Any) -> tuple[int, ...]:
    """``3`` as 0, 1, 2; a list as it is."""
    found = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else value
    whole = isinstance(found, list) and all(isinstance(each, int) and each >= 0 for each in found)
    if not whole or not found or len(set(found)) < len(found):
        raise ZooError(f"{where}: seeds {value}: how many (5), or a list of different ones ([0, 1, 2]), is needed.")
    return tuple(found)


def _evaluate(where: str, shared: Any, own: Any, changed: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of a block's evaluations; None where it has none."""
    if own is False or (own is None and shared is False):
        return None
    found = {**_section(f"{where}: evaluate", shared or None), **_section(f"{where}: evaluate", own), **changed}
    if found.get("checkpoint", "last") not in ("best", "last"):
        near = registry.suggestion(str(found["checkpoint"]), ["best", "last"])
        raise ZooError(f"{where}: evaluate.checkpoint {found['checkpoint']}: best or last is accepted.{near}")
    for name in ("ckpt", "out", "gpus"):
        if name in found:
            raise ZooError(f"{where}: evaluate.{name} is the study's to say; leave it out.")
    return found


def _grid(where: str, grid: Any) -> list[dict[str, Any]]:
    """Each combination of values; those of ``a, b: [[1, 2], [3, 4]]`` go together."""
    axes = []
    for key, values in _section(f"{where}: grid", grid).items():
        names = [name.strip() for name in key.split(",")]
        if not isinstance(values, list) or not values:
            raise ZooError(f"{where}: grid.{key} {values}: a list of values is needed.")
        rows = values if len(names) > 1 else [[value] for value in values]
        if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
            raise ZooError(f"{where}: grid.{key}: {len(names)} values are needed each time, as in [[1, 10], [2, 20]].")
        axes.append([dict(zip(names, row, strict=True)) for row in rows])
    return [{key: value for part in parts for key, value in part.items()} for parts in itertools.product(*axes)]


def _require_fit(where: str, options: Mapping[str, Any]) -> None:
    for name in options:
        if name in _OURS:
            raise ZooError(f"{where}: fit.{name} is the study's to say, by {_OURS[name]}.")
    if "model" not in options and "config" not in options:
        raise ZooError(f"{where}: fit names no model.\nType `model: NAME`, one of {', '.join(registry.MODELS)}.")


def _require_names(path: Path, settings: Sequence[Setting]) -> None:
    seen: set[str] = set()
    for each in settings:
        if each.name in seen:
            raise ZooError(
                f"{path}: two settings are called {each.name}.\nGive one of their blocks another name: `name: ...`."
            )
        if len(each.name) > 90 or not re.match(r"[\w+=]", each.name):
            raise ZooError(f"{path}: the name {each.name[:100]}: at most 90 letters, digits and ._+=- are accepted.")
        seen.add(each.name)


def _chosen(settings: Sequence[Setting], patterns: Sequence[str]) -> list[Setting]:
    for pattern in patterns:
        if not fnmatch.filter([each.name for each in settings], pattern):
            names = [each.name for each in settings]
            near = registry.suggestion(pattern, names)
            raise ZooError(f"--only {pattern}: no setting is called so.{near}\nThere are {', '.join(names)[:300]}.")
    return [each for each in settings if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in patterns)]


def _changes(changes: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``KEY=VALUE`` as options of training and of evaluation."""
    fit: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ZooError(f"--set {change}: KEY=VALUE is needed, such as data.root=~/data or evaluate.samples=1000")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        (evaluate if key.startswith("evaluate.") else fit)[key.removeprefix("evaluate.").removeprefix("fit.")] = value
    return fit, evaluate


def _execution(path: Path, section: Mapping[str, Any], given: Mapping[str, Any]) -> Execution:
    names = tuple(Execution.__dataclass_fields__)
    _known(f"{path}: run", section, names)
    found = {**section, **{name: value for name, value in given.items() if value is not None}}
    if isinstance(found.get("provider"), str):
        found["provider"] = {"name": found["provider"]}
    for name, least in (("workers", 1), ("threads", 1), ("per_gpu", 1), ("retries", 0), ("minutes", 0)):
        value = found.get(name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value < least):
            raise ZooError(f"{path}: run.{name} {value}: a number of {least} or more is needed.")
    for name in ("warm", "stack"):
        if not isinstance(found.get(name, True), bool):
            raise ZooError(f"{path}: run.{name} {found[name]}: true or false is accepted.")
    if found.get("provider") is not None and "name" not in _section(f"{path}: run.provider", found["provider"]):
        raise ZooError(f"{path}: run.provider has no name: local, slurm, pbs, kubernetes, ... is needed.")
    return Execution(**{name: value for name, value in found.items() if value is not None})


def _stem(config: Any) -> str:
    return Path(str(config[-1] if isinstance(config, list) else config)).stem


def _short(value: Any) -> str:
    """A value in a name: without spaces and brackets."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_short(each)}" for key, each in value.items())
    return ",".join(map(_short, value)) if isinstance(value, list) else str(value)
