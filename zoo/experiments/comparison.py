"""Runs as a table: rows of equal configurations, blocks of equal protocols, and what may be said of the differences."""

import fnmatch
import glob
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import ZooError
from zoo.experiments import statistics, tables
from zoo.experiments.cells import Block, Cell, Column, Compared, Row, shown
from zoo.experiments.contrasts import contrast, judge
from zoo.experiments.published import read_published
from zoo.experiments.quantities import better, leaf, order
from zoo.experiments.report import write_report
from zoo.runs.stored import StoredEvaluation, StoredRun, find_runs, natural, read_run
from zoo.runs.wandb_runs import read_offline, read_wandb

__all__ = ["Comparison", "find", "fulfills"]

_COUNTS = ("_standard_error", "_examples", "_samples", "_seconds")  # ends of names of what is no quality


def find(places: Iterable[str | Path]) -> list[StoredRun]:
    """Reads the runs that folders, patterns and ``wandb:`` addresses name, each once, in the order of their names.

    Arguments:
        places: Run folders; folders of them at any depth; patterns such as ``runs/vae-*/*``; folders of offline W&B runs;
            ``wandb:entity/project`` or ``wandb:entity/project/group``.

    Returns:
        The runs.

    Raises:
        ZooError: where a place names no run.
    """
    found: dict[str, StoredRun] = {}
    for place in map(str, places):
        if place.startswith("wandb:"):
            found |= {run.name: run for run in read_wandb(place.removeprefix("wandb:"))}
            continue
        matching = [place] if Path(place).exists() else sorted(glob.glob(place), key=natural)
        folders = [folder for match in matching for folder in find_runs(match)]
        for folder in folders:
            if str(folder.resolve()) not in found:
                found[str(folder.resolve())] = read_run(folder)
        offline = [] if folders else [path for match in matching for path in sorted(Path(match).rglob("*.wandb"))]
        if offline:
            found |= {run.name: run for run in read_offline(offline)}
        if not folders and not offline:
            raise ZooError(f"{place}: no run there. Name a run folder (one with config.yaml), or one that holds some.")
    return sorted(found.values(), key=lambda run: natural(run.name))


class Comparison(Compared):
    """Runs side by side: what :func:`print` shows, and what ``python -m zoo.compare`` writes.

    Runs of one configuration minus the seed are a row. Numbers that were measured in different ways, by their protocols in
    ``evaluation.json``, stand in separate blocks. In every column whose metric has a better end the rows are compared with
    the best one, or with ``baseline``: paired over test examples where log p of each was stored, else by Welch's test over
    seeds; p-values are corrected by Holm's method. Where the best row is the reference, the data chose it, so the correction
    is for all pairs of rows.

    Arguments:
        runs: Run folders, patterns and ``wandb:`` addresses, as :func:`find` takes them, or runs that were read.
        by: Options by which rows are told apart, such as ``model.latent_dim``; if not given, by all of them.
        metrics: The metrics, ``nll`` or ``test/nll`` or ``val/elbo``, also as patterns; if not given, all of the test split,
            or of validation where no run has been evaluated.
        sort: The metric to sort rows by; ``name`` for their names; if not given, the first column that is ranked.
        filter: Conditions that a run must fulfill: ``model=vae``, ``model.lr!=0.001``, ``state=finished``; values may be
            patterns.
        baseline: The name of the row, or a pattern of it, with which all others are compared.
        published: Whether numbers of the literature are shown.
        side_by_side: Whether a metric that was measured in several ways has a column for each of them in one block, and not
            a block for each. They are as little ranked together.

    Raises:
        ZooError: where no run is left, and for names that there are not.

    Example:
        >>> runs = [StoredRun(f"runs/vae-digits/{i}", "vae", "digits", seed=i, state="finished") for i in range(2)]
        >>> for run, nll in zip(runs, (82.0, 83.0)):
        ...     run.evaluations.append(StoredEvaluation(None, {"data": "digits", "metrics": {"test/nll": nll}, "schema": 1,
        ...                                                    "protocol": {"test/nll": {"kind": "bound", "draws": 10}}}))
        >>> comparison = Comparison(runs)
        >>> comparison.blocks[0].columns[0].cells["vae"].summary.mean
        82.5
    """

    def __init__(
        self,
        runs: Iterable[str | Path | StoredRun],
        *,
        by: Sequence[str] = (),
        metrics: Sequence[str] = (),
        sort: str | None = None,
        filter: Sequence[str] = (),
        baseline: str | None = None,
        published: bool = True,
        side_by_side: bool = False,
    ):
        given = list(runs)
        read = find([each for each in given if not isinstance(each, StoredRun)])
        read += [each for each in given if isinstance(each, StoredRun)]
        super().__init__()
        self.runs = [run for run in read if all(_fulfills(run, condition) for condition in filter)]
        if not self.runs:
            raise ZooError(f"no run is left of {len(read)}" + (f" with --filter {', '.join(filter)}." if filter else "."))
        self.problems = [problem for run in self.runs for problem in run.problems]
        self.by = [_known(key, _keys(self.runs), "option") for key in by]
        self.metrics = _chosen(metrics, self.runs)
        self.rows = self._rows()
        self.baseline = self._named(baseline) if baseline is not None else None
        self.blocks = self._blocks(side_by_side)
        for block in self.blocks:
            for column in block.columns:
                self.problems += contrast(column, self.baseline)
        self._sort(sort)
        if published:
            entries = read_published()
            for block in self.blocks:
                names = [column.metric for column in block.columns]
                block.published = [(each, judge(each, block)) for each in entries if each.fits(block.protocol, names)]

    def table(self, width: int | None = None, everything: bool = False) -> str:
        """The comparison as text.

        Arguments:
            width: The most characters of a line; no limit if not given.
            everything: Also costs, all tests and all differences of configuration.
        """
        return tables.terminal(self, width, everything)

    def __str__(self) -> str:
        return self.table()

    def records(self) -> list[dict[str, Any]]:
        """A flat dictionary for each cell: what the long CSV holds."""
        return tables.records(self)

    def to_dataframe(self) -> Any:
        """:meth:`records` as a data frame of pandas.

        Raises:
            ZooError: where pandas is not installed, which the zoo does not need.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise ZooError("to_dataframe needs pandas: pip install pandas; records() gives the same as a list.") from None
        return pandas.DataFrame(self.records())

    def report(self, path: str | Path) -> Path:
        """Write the comparison as one HTML file that needs no network, and return its path."""
        return write_report(self, path)

    def save(self, folder: str | Path) -> list[Path]:
        """Write report.html, table.md, table.tex, long.csv, wide.csv and comparison.json, and return their paths."""
        return [*tables.save(self, folder), self.report(Path(folder) / "report.html")]

    def _rows(self) -> list[Row]:
        groups: dict[str, list[StoredRun]] = defaultdict(list)
        for run in self.runs:
            config = {key: run.config.get(key) for key in self.by} if self.by else _identity(run)
            groups[json.dumps(config, sort_keys=True, default=str)].append(run)
        rows = []
        for group in groups.values():
            first, others = group[0].config, group[1:]
            agreed = {key: value for key, value in first.items() if all(run.config.get(key) == value for run in others)}
            agreed |= {"model": first.get("model", group[0].model), "data": first.get("data", group[0].data)}
            finished, rest = self._seeds(group)
            rows.append(Row("", finished, rest, agreed))
        _name(rows, self.by)
        return sorted(rows, key=lambda row: natural(row.name))

    def _seeds(self, runs: list[StoredRun]) -> tuple[list[StoredRun], list[StoredRun]]:
        """The finished runs, the last one of each seed, and the others; a seed that was run twice is no two seeds."""
        finished = [run for run in runs if run.state == "finished"]
        if self.by:  # runs of one seed may differ in what they are not told apart by
            return finished, [run for run in runs if run.state != "finished"]
        last: dict[Any, StoredRun] = {}
        for run in finished:
            key = run.seed if run.seed is not None else run.name
            if key in last:
                self.problems.append(
                    f"{last[key].name} and {run.name} are of one configuration and seed: the latter counts."
                )
            last[key] = run
        return list(last.values()), [run for run in runs if run.state != "finished"]

    def _named(self, pattern: str) -> str:
        names = [row.name for row in self.rows]
        found = [name for name in names if name == pattern] or [each for each in names if fnmatch.fnmatchcase(each, pattern)]
        if len(found) != 1:
            what = "no row" if not found else f"{len(found)} rows"
            raise ZooError(f"--baseline {pattern}: {what} of that name among {', '.join(names)[:400]}.")
        return found[0]

    def _blocks(self, side_by_side: bool) -> list[Block]:
        """A block for each kind of data, split and weights; one more for each other way in which a metric was measured.

        Or, side by side, one more column.
        """
        found: dict[str, dict[str, dict[str, dict[str, Cell]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
        for row in self.rows:
            for run in row.runs:
                for metric, value, common, protocol, evaluation in self._measured(run):
                    cells = found[_key(common)][metric][_key(protocol)]
                    cell = cells.setdefault(row.name, Cell())
                    if run not in cell.runs and math.isfinite(value):
                        cell.values.append(value)
                        cell.runs.append(run)
                        if evaluation is not None:
                            cell.evaluations.append(evaluation)
        blocks = []
        for shared, by_metric in sorted(found.items()):
            ways = {
                metric: sorted(ways.items(), key=lambda way: (-sum(len(cell.values) for cell in way[1].values()), way[0]))
                for metric, ways in by_metric.items()
            }
            most = max(map(len, ways.values()))
            for chosen in [range(most)] if side_by_side else [range(i, i + 1) for i in range(most)]:
                columns = [
                    Column(metric, json.loads(ways[metric][i][0]), dict(ways[metric][i][1]))
                    for metric in sorted(ways, key=order)
                    for i in chosen
                    if len(ways[metric]) > i
                ]
                _tell_apart(columns)
                named = {name for column in columns for name in column.cells}
                rows = [row for row in self.rows if row.name in named]
                for column in columns:
                    self._fill(column, rows)
                blocks.append(Block(json.loads(shared), rows, columns, _references(columns)))
        if not blocks:
            blocks = [Block({}, self.rows, [])]
        return blocks

    def _measured(self, run: StoredRun) -> Iterable[tuple[str, float, dict, dict, StoredEvaluation | None]]:
        """Each chosen metric of a run: name, value, what the block shares, the metric's own protocol, where it is from."""
        for evaluation in run.evaluations:
            content = evaluation.content
            common = {
                "data": str(content.get("data", run.data)),
                "levels": content.get("levels"),
                "split": str(content.get("split", "test")),
                "weights": content.get("weights"),
            }
            for metric in self.metrics:
                if metric in evaluation.metrics:
                    protocol = content["protocol"].get(metric)
                    if protocol is None:
                        protocol = {"unknown": "measured before protocols were stored; evaluate again"}
                    yield metric, evaluation.metrics[metric], common, protocol, evaluation
        split = {"val": "validation", "train": "training batches"}
        for metric in self.metrics:
            kind = metric.partition("/")[0]
            if kind in split and metric in run.curves:
                common = {"data": run.data, "levels": None, "split": split[kind], "weights": "last"}
                yield metric, float(run.curves[metric].values[-1]), common, {"at": "the last that was logged"}, None

    def _fill(self, column: Column, rows: list[Row]) -> None:
        """Summaries of the cells, and reasons of those that are empty."""
        for row in rows:
            cell = column.cells.setdefault(row.name, Cell())
            if cell.values:
                cell.summary = statistics.summarize(cell.values)
            else:
                cell.reason = _reason(row, column.metric)

    def _sort(self, by: str | None) -> None:
        if by == "name":
            return
        for block in self.blocks:
            ranked = [column for column in block.columns if better(column.metric)]
            if by is not None:
                ranked = [column for column in block.columns if by in (column.metric, leaf(column.metric))]
                if not ranked and by not in {leaf(metric) for metric in self.metrics} | set(self.metrics):
                    raise ZooError(
                        f"--sort {by}: no such metric.{registry.suggestion(by, [*map(leaf, self.metrics), 'name'])}"
                    )
            for column in ranked[:1]:
                sign = -1 if better(column.metric) == "higher" else 1
                means = {name: sign * cell.summary.mean if cell.summary else math.inf for name, cell in column.cells.items()}
                block.rows.sort(key=lambda row, means=means: (means[row.name], natural(row.name)))  # type: ignore[misc]


def _tell_apart(columns: Sequence[Column]) -> None:
    """Say of columns of one metric in what their protocols differ: exact or bound, where that tells all of them apart."""
    for metric, count in Counter(column.metric for column in columns).items():
        of = [column for column in columns if column.metric == metric]
        keys = sorted({key for column in of for key in column.protocol}, key=lambda key: (key != "kind", key))
        different = {key: len({_key({key: column.protocol.get(key)}) for column in of}) for key in keys}
        for column in of if count > 1 else ():
            kind = column.protocol.get("kind")
            told = {key: column.protocol.get(key) for key in keys if different[key] > 1}
            column.way = str(kind) if different.get("kind") == count else tables.described(told)


def _references(columns: Sequence[Column]) -> dict[str, dict[str, float]]:
    """The rows of sample scores that say what a model's own mean: a floor, a memorizer, a ceiling."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for column in columns:
        for evaluation in (each for cell in column.cells.values() for each in cell.evaluations):
            told = evaluation.content.get("samples")
            rows = told.get("rows") if isinstance(told, dict) else None
            features = column.protocol.get("features")
            name = features.get("name") if isinstance(features, dict) else None
            for row, scores in rows.items() if isinstance(rows, dict) and name else ():
                value = scores.get(leaf(column.metric).removesuffix(f"_{name}")) if isinstance(scores, dict) else None
                if isinstance(value, int | float) and math.isfinite(value):
                    found[str(row)][column.metric].append(value)
    return {row: {name: sum(each) / len(each) for name, each in scores.items()} for row, scores in found.items()}


def _reason(row: Row, metric: str) -> str:
    """Why a row has no such number."""
    if not row.runs:
        return "no run finished"
    if metric.startswith("test/") and not any(run.evaluations for run in row.runs):
        return "not evaluated"
    for run in row.runs:
        for evaluation in run.evaluations:
            missing = evaluation.content.get("missing")
            if isinstance(missing, dict) and isinstance(missing.get(metric), str):
                return missing[metric]
            if metric in evaluation.metrics and not math.isfinite(evaluation.metrics[metric]):
                return "not finite"
            if metric in evaluation.metrics:
                return "measured in another way"
    return "not measured"


def _identity(run: StoredRun) -> dict[str, Any]:
    return {**run.config, "model": run.config.get("model", run.model), "data": run.config.get("data", run.data)}


def _name(rows: list[Row], by: Sequence[str]) -> None:
    """Give each row a name: its model, its data where they differ, and the options in which rows of one model differ."""
    several_data = len({row.config["data"] for row in rows}) > 1
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        base = str(row.config["model"]) + (f" on {row.config['data']}" if several_data else "")
        groups["" if by else base].append(row)
    for base, group in groups.items():
        keys = list(by) if by else sorted({key for row in group for key in row.config} - {"model", "data"})
        differing = [key for key in keys if by or len({shown(row.config.get(key)) for row in group}) > 1]
        short = Counter(key.rpartition(".")[2] for key in differing)
        names = {key: end if short[end := key.rpartition(".")[2]] == 1 else key for key in differing}
        plain = ("model", "data", "setting")
        for row in group:
            parts = [
                shown(row.config.get(key)) if key in plain else f"{names[key]}={shown(row.config.get(key))}"
                for key in differing
                if by or row.config.get(key) is not None
            ]
            row.name = " ".join([base, *parts] if base else parts)
    taken: Counter[str] = Counter()
    for row in rows:
        taken[row.name] += 1
        if taken[row.name] > 1:
            row.name += f" #{taken[row.name]}"


def _key(protocol: Mapping[str, Any]) -> str:
    return json.dumps(protocol, sort_keys=True, default=str)


def _keys(runs: Iterable[StoredRun]) -> set[str]:
    return {key for run in runs for key in run.config} | {"model", "data"}


def _known(name: str, names: Iterable[str], what: str) -> str:
    """The full name of what was typed: itself, or the only one that ends in it."""
    names = set(names)
    if name in names:
        return name
    ending = sorted(each for each in names if each.endswith(f".{name}"))
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise ZooError(f"{name} is one of {', '.join(ending)}: which?")
    raise ZooError(f"no {what} {name} in these runs.{registry.suggestion(name, names)}")


def fulfills(own: Mapping[str, Any], config: Mapping[str, Any], condition: str) -> bool:
    """Whether a run fulfills a condition as it is typed: ``model=vae``, ``model.lr!=0.001``, values also as patterns.

    Arguments:
        own: What every run has: model, data, state, seed.
        config: Its options, by their full names; a name that one of them ends in stands for it.
        condition: The condition.

    Raises:
        ZooError: where it is none.

    Example:
        >>> fulfills({"model": "vae"}, {"model.lr": 0.001}, "model=v*"), fulfills({}, {"model.lr": 0.001}, "lr!=0.001")
        (True, False)
    """
    name, equals, pattern = condition.partition("=")
    if not equals or not name.rstrip("!"):
        raise ZooError(f"--filter {condition}: NAME=VALUE or NAME!=VALUE is needed, as model=vae or model.lr!=0.001")
    wanted, name = not name.endswith("!"), name.rstrip("!")
    value = own[name] if name in own else config.get(name, _ending(config, name))
    return fnmatch.fnmatchcase(shown(value), pattern) == wanted


def _fulfills(run: StoredRun, condition: str) -> bool:
    own = {"model": run.model, "data": run.data, "state": run.state, "seed": run.seed, "name": run.name}
    return fulfills(own, run.config, condition)


def _ending(config: Mapping[str, Any], name: str) -> Any:
    found = [value for key, value in config.items() if key.endswith(f".{name}")]
    return found[0] if len(found) == 1 else None


def _chosen(wanted: Sequence[str], runs: Sequence[StoredRun]) -> list[str]:
    """The full names of the metrics that are shown."""
    tested = {name for run in runs for each in run.evaluations for name in each.metrics if not name.endswith(_COUNTS)}
    logged = {name for run in runs for name in run.curves}
    if not wanted:
        return sorted(tested or {name for name in logged if name.startswith("val/")}, key=order)
    found: dict[str, None] = {}
    for pattern in wanted:
        names = {name for name in tested | logged if fnmatch.fnmatchcase(name, pattern)}
        names = names or {name for name in tested if fnmatch.fnmatchcase(leaf(name), pattern)}
        names = names or {name for name in logged if fnmatch.fnmatchcase(name, f"val/{pattern}")}
        if not names:
            known = {*map(leaf, tested), *logged}
            raise ZooError(f"--metrics {pattern}: no run has it.{registry.suggestion(pattern, known)}")
        found |= dict.fromkeys(sorted(names, key=order))
    return list(found)
