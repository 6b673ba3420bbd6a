"""The runs of a study as rows: method, strength, seed, data and every number; from run folders, from and to a CSV file."""

import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from zoo.errors import ZooError
from zoo.experiments.cells import shown
from zoo.experiments.quantities import leaf, order
from zoo.files import write_atomically
from zoo.runs.stored import State, StoredEvaluation, StoredRun, natural

__all__ = ["ScoredRun", "read_csv", "settings_of", "study_runs", "to_csv", "values_of", "write_csv"]

# The option that each method of the study sweeps.
_STRENGTHS = {
    "beta_vae": "model.beta",
    "annealed_vae": "model.capacity",
    "factor_vae": "model.gamma",
    "beta_tcvae": "model.beta",
    "dip_vae": "model.lambda_od",
}
_NAMES = ("data", "method", "option", "strength", "seed", "state", "seconds", "command")
_COUNTS = ("_standard_error", "_examples", "_samples", "_seconds")  # ends of names of what is no quality
_LARGEST = 2**26  # bytes of a CSV file
_STATES = get_args(State)


@dataclass(frozen=True)
class ScoredRun:
    """One training of a study.

    Attributes:
        method: The model, with its variant where it has some: ``beta_vae``, ``dip_vae I``.
        strength: The value of the option that is swept, as text; empty where nothing is.
        seed: The seed; None where it is not known.
        data: The name of the data, with the options in which data of one name differ.
        option: The option that is swept, ``beta``.
        state: How the training ended; numbers of those that did not finish count for nothing.
        numbers: Every number by its name without split: ``mig``, ``elbo``, ...
        facts: ``seconds``, ``command`` and other texts, which nothing is computed from.
    """

    method: str
    strength: str = ""
    seed: int | None = None
    data: str = ""
    option: str = ""
    state: State = "finished"
    numbers: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """Method and strength: what runs of a study share but for their seeds.

        Example:
            >>> ScoredRun("beta_vae", "4.0", option="beta").setting, ScoredRun("vae").setting
            ('beta_vae beta=4.0', 'vae')
        """
        swept = f"{self.option}={self.strength}" if self.option and "=" not in self.strength else self.strength
        return f"{self.method} {swept}".rstrip()

    def place(self) -> tuple:
        """A key that sorts by data, method, strength and seed, numbers as numbers."""
        return natural(self.data), natural(self.method), _number_first(self.strength), self.seed is None, self.seed or 0


def _number_first(text: str) -> tuple[float, list]:
    try:
        return float(text), natural(text)
    except ValueError:
        return math.inf, natural(text)


def study_runs(
    runs: Iterable[StoredRun], more: Mapping[str, Mapping[str, float]] | None = None
) -> tuple[list[ScoredRun], dict[str, dict[str, Any]], list[str]]:
    """What run folders hold, as rows of a study.

    Where a metric was measured in several ways in runs on the same data, by its protocol, the way of most runs counts.

    Arguments:
        runs: The runs.
        more: Further numbers of runs, by the runs' names.

    Returns:
        The rows in the order of data, method, strength and seed; how each metric was measured; and what was left out, in a
        line each.
    """
    runs, more = list(runs), more or {}
    notes = [f"damaged: {problem}" for run in runs for problem in run.problems]
    names = [(each.data, each.method, each.strength, each.option) for each in _settings(runs)]
    numbers, protocols = _numbers(runs, [name[0] for name in names], notes)
    found = []
    for run, (data, method, strength, option) in zip(runs, names, strict=True):
        own = {**numbers.get(id(run), {}), **more.get(run.name, {})} if run.state == "finished" else {}
        facts = {key: str(run.facts[key]) for key in ("seconds", "command") if run.facts.get(key) is not None}
        found.append(ScoredRun(method, strength, run.seed, data, option, run.state, own, facts))
    missing = sum(run.state == "finished" and not run.evaluations for run in runs)
    if missing:
        notes.append(f"{missing} finished runs were not evaluated: python -m zoo.compare RUNS --evaluate")
    return sorted(_once(found, notes), key=ScoredRun.place), protocols, notes


def settings_of(runs: Sequence[StoredRun]) -> list[tuple[str, str]]:
    """The data and the setting of each run, as :func:`study_runs` calls them among these runs."""
    return [(each.data, each.setting) for each in _settings(runs)]


def _settings(runs: Sequence[StoredRun]) -> list[ScoredRun]:
    """Each run with its data, method and strength alone."""
    names = _data_names(runs)
    groups: dict[tuple[str, str], list[StoredRun]] = defaultdict(list)
    for run, name in zip(runs, names, strict=True):
        groups[name, _method(run)].append(run)
    swept = {key: _swept(group) for key, group in groups.items()}
    found = []
    for run, name in zip(runs, names, strict=True):
        method = _method(run)
        values = {key: shown(run.config.get(key)) for key in swept[name, method]}
        several = " ".join(f"{_short(key)}={value}" for key, value in values.items())
        strength = next(iter(values.values()), "") if len(values) < 2 else several
        found.append(ScoredRun(method, strength, run.seed, name, ", ".join(map(_short, values))))
    return found


def _method(run: StoredRun) -> str:
    variant = run.config.get("model.variant")
    return str(run.config.get("model", run.model)) + (f" {variant}" if variant else "")


def _short(key: str) -> str:
    return key.removeprefix("model.")


def _data_names(runs: Sequence[StoredRun]) -> list[str]:
    """The name of each run's data, with the options in which data of one name differ, but for the size of batches."""
    options = [
        {key: shown(value) for key, value in run.config.items() if key.startswith("data.") and key != "data.batch_size"}
        for run in runs
    ]
    names = [str(run.config.get("data", run.data)) for run in runs]
    known: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in set(names):
        own = [each for each, other in zip(options, names, strict=True) if other == name]
        for key in {key for each in own for key in each}:
            known[name][key] = {each.get(key, "-") for each in own}
    return [
        " ".join([name, *(f"{key.removeprefix('data.')}={each.get(key, '-')}" for key in sorted(known[name])
                          if len(known[name][key]) > 1)])
        for name, each in zip(names, options, strict=True)
    ]  # fmt: skip


def _swept(runs: Sequence[StoredRun]) -> list[str]:
    """The options in which runs of one method on the same data differ; always the one that the method's study sweeps.

    What follows from that one, as lambda_d of a DIP-VAE may, is no option of its own.
    """
    model = str(runs[0].config.get("model", runs[0].model))
    keys = {key for run in runs for key in run.config if not key.startswith("data.")}
    differing = sorted(key for key in keys if len({shown(run.config.get(key)) for run in runs}) > 1)
    own = [key for name, key in _STRENGTHS.items() if name == model and key in keys]
    return own + [key for key in differing if key not in own and not (own and _follows(runs, own[0], key))]


def _follows(runs: Sequence[StoredRun], first: str, second: str) -> bool:
    """Whether the value of the second option is decided by that of the first."""
    pairs = {(shown(run.config.get(first)), shown(run.config.get(second))) for run in runs}
    return len(pairs) == len({value for value, _ in pairs})


def _numbers(
    runs: Sequence[StoredRun], data: Sequence[str], notes: list[str]
) -> tuple[dict[int, dict[str, float]], dict[str, dict[str, Any]]]:
    """The numbers of each finished run, by its id, all of a metric measured in one way; and that way."""
    ways: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for run, name in zip(runs, data, strict=True):
        for evaluation in run.evaluations if run.state == "finished" else ():
            for metric, value in evaluation.metrics.items():
                if not metric.endswith(_COUNTS) and math.isfinite(value):
                    ways[name, leaf(metric)][_way(evaluation, metric)].setdefault(id(run), value)
    numbers: dict[int, dict[str, float]] = defaultdict(dict)
    protocols: dict[str, dict[str, Any]] = {}
    left_out: Counter[tuple[str, int]] = Counter()
    for (name, metric), found in ways.items():
        way, chosen = max(found.items(), key=lambda each: (len(each[1]), each[0]))
        protocols[metric if len(set(data)) == 1 else f"{name}: {metric}"] = json.loads(way)
        for run_id, value in chosen.items():
            numbers[run_id][metric] = value
        others = {run_id for each in found.values() for run_id in each} - chosen.keys()
        if others:
            left_out[name, len(others)] += 1
    notes += [
        f"{metrics} metrics of {count} runs on {name} were measured in another way than in most, and are left out"
        for (name, count), metrics in left_out.items()
    ]
    return numbers, protocols


def _way(evaluation: StoredEvaluation, metric: str) -> str:
    """How a metric was measured, as a key: its protocol, the split and which weights."""
    content = evaluation.content
    how = {**(content["protocol"].get(metric) or {"unknown": True})}
    return json.dumps(how | {key: content.get(key) for key in ("split", "weights")}, sort_keys=True, default=str)


def _once(rows: Iterable[ScoredRun], notes: list[str]) -> list[ScoredRun]:
    """Rows of which no two that finished are of one setting, data and seed: the latter counts."""
    last: dict[tuple, ScoredRun] = {}
    twice: Counter[str] = Counter()
    for i, row in enumerate(rows):
        unique = row.state != "finished" or row.seed is None
        key = (row.data, row.setting, row.seed, i if unique else "")
        if key in last:
            twice[row.setting] += 1
        last[key] = row
    notes += [f"{setting}: {count} runs of a seed that was run again, which count for nothing" for setting, count in
              twice.items()]  # fmt: skip
    return list(last.values())


def values_of(rows: Sequence[ScoredRun], name: str) -> np.ndarray:
    """A number of each run, (N,), NaN where it has none."""
    return np.array([row.numbers.get(name, math.nan) for row in rows], dtype=np.float64)


def to_csv(rows: Sequence[ScoredRun]) -> str:
    """Rows as the text of a CSV file: a line for each run, a column for each number; what a run lacks stays empty.

    Example:
        >>> print(to_csv([ScoredRun("beta_vae", "4.0", 0, "dsprites", "beta", numbers={"mig": 0.25})]), end="")
        data,method,option,strength,seed,state,mig
        dsprites,beta_vae,beta,4.0,0,finished,0.25
    """
    facts = [name for name in _NAMES[6:] if any(name in row.facts for row in rows)]
    metrics = sorted({name for row in rows for name in row.numbers}, key=order)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_NAMES[:6], *metrics, *facts])
    for row in rows:
        seed = "" if row.seed is None else row.seed
        writer.writerow(
            [row.data, row.method, row.option, row.strength, seed, row.state]
            + [repr(float(row.numbers[name])) if name in row.numbers else "" for name in metrics]
            + [row.facts.get(name, "") for name in facts]
        )
    return file.getvalue()


def write_csv(rows: Sequence[ScoredRun], path: str | Path) -> Path:
    """Write rows as a CSV file (:func:`to_csv`), and return its path."""
    with write_atomically(path, text=True) as file:
        file.write(to_csv(rows))
    return Path(path)


def read_csv(path: str | Path) -> tuple[list[ScoredRun], list[str]]:
    """The rows of a CSV file as :func:`write_csv` writes it.

    ``method`` and ``seed`` are needed; ``data``, ``strength``, ``option``, ``state``, ``seconds`` and ``command`` may be
    there. Every other column holds numbers; what is empty, or no finite number, is missing.

    Arguments:
        path: The file.

    Returns:
        The rows in the order of data, method, strength and seed, and what was left out, in a line each.

    Raises:
        ZooError: where it is no such table.
    """
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise ZooError(f"{path} has more than {_LARGEST:,} bytes, far more than a table of runs takes.")
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader]
            names = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ZooError(f"{path} is no table of runs: {error}") from error
    if lacking := [name for name in ("method", "seed") if name not in names]:
        raise ZooError(f"{path} has no column {' or '.join(lacking)}: a table of runs has method, seed, strength, data, "
                       "and a column for each score.")  # fmt: skip
    notes: list[str] = []
    rows = [_row(line, number, path) for number, line in lines]
    return sorted(_once(rows, notes), key=ScoredRun.place), notes


def _row(line: Mapping[str, Any], number: int, path: str | Path) -> ScoredRun:
    if None in line or None in line.values():
        raise ZooError(f"{path}, line {number}: not as many values as the first line has names.")
    texts = {name: shown(line.get(name, "")) for name in ("method", "strength", "data", "option")}
    told = line.get("state") or "finished"
    state: State | None = next((each for each in _STATES if each == told), None)
    if state is None:
        raise ZooError(f"{path}, line {number}: state {shown(told)[:40]}: {', '.join(_STATES)} are accepted.")
    try:
        seed = int(line["seed"]) if line["seed"] else None
        numbers = {shown(name): float(text) for name, text in line.items() if name not in _NAMES and text}
    except ValueError as error:
        raise ZooError(f"{path}, line {number}: {shown(error)[:200]}; an empty value is one that is missing.") from None
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)} if state == "finished" else {}
    facts = {name: line[name] for name in _NAMES[6:] if line.get(name)}
    return ScoredRun(seed=seed, state=state, numbers=finite, facts=facts, **texts)
