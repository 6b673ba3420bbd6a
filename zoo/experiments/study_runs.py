"""A run of a study: the two commands that it is, and what of it is there already, by its own folder alone."""

import glob
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.errors import ZooError
from zoo.files import read_json

__all__ = ["Place", "StudyRun", "arguments", "differing", "folders", "place_of", "remove", "stacked_arguments"]

Place = Literal["new", "begun", "interrupted", "failed", "diverged", "trained", "done"]

# What says where and how something is computed, and not what.
_OPERATION = {"name", "ckpt", "ckpt_path", "resume", "gpus", "wandb", "out", "checkpoint_every", "device", "trust", "stack"}
_OPERATION |= {"data.root", "data.num_workers", "data.on_device", "data.eval_batch_size", "trainer.default_root_dir"}
_OPERATION |= {"trainer.enable_progress_bar", "trainer.accelerator", "trainer.devices"}


@dataclass(frozen=True)
class StudyRun:
    """One training and its evaluation.

    Attributes:
        name: Its name in the study, which is that of its folder.
        setting: The name of its setting.
        seed: Its seed.
        root: Where run folders are made.
        fit: What follows ``python -m zoo.fit``, but for the device.
        evaluate: What follows ``python -m zoo.evaluate``, but for checkpoint and device; None for no evaluation.
        checkpoint: ``best`` or ``last``; None for the best where there is one.
    """

    name: str
    setting: str
    seed: int
    root: str
    fit: list[str]
    evaluate: list[str] | None
    checkpoint: str | None = None

    @property
    def folder(self) -> Path | None:
        """Its folder, if that is there; what is between root and name, the names of model and data, training decides."""
        return next(iter(Path(self.root).glob(f"*/{glob.escape(self.name)}")), None)

    def fit_arguments(self, folder: Path | None) -> list[str]:
        """What is typed to train it, or to go on with it in its folder."""
        if folder is None:
            return self.fit
        words = list(self.fit)
        at = words.index("--name")
        return [*words[:at], *words[at + 2 :], "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]

    def tested(self, folder: Path) -> Path:
        """The checkpoint that is evaluated."""
        best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
        if self.checkpoint == "best" and not best.exists():
            raise ZooError(f"{folder} has no best.ckpt: its model names no metric to judge by.\nGive `checkpoint: last`.")
        return last if self.checkpoint == "last" or not best.exists() else best


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as they are typed.

    Example:
        >>> arguments({"lr": 1e-3, "data.factors": {"shape": [0, 2]}, "compile": True, "prior": None})
        ['--lr', '0.001', '--data.factors', '{"shape": [0, 2]}', '--compile', 'true', '--prior', 'null']
    """
    words = []
    for name, value in options.items():
        for each in value if name == "config" and isinstance(value, list) else [value]:
            text = _text("off" if name == "wandb" and each is False else each)  # YAML reads `off` as false
            words += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return words


def stacked_arguments(runs: Sequence[StudyRun]) -> list[str]:
    """What follows ``python -m zoo.fit`` to train runs of one setting, which differ in their seeds, as one model."""
    words = list(runs[0].fit)
    words[words.index("--name") + 1] = runs[0].setting
    at = words.index("--seed")
    seeds = ",".join(str(run.seed) for run in runs)
    return [*words[:at], "--seeds", seeds, "--stack", "on", *words[at + 2 :]]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def differing(recorded: str, typed: Sequence[str]) -> str | None:
    """The first option in which a command that was typed differs from another one, in words; None where they are equal.

    What says where and how it was computed is no difference, nor is a command that only goes on with a checkpoint.

    Example:
        >>> differing("python -m zoo.fit --model vae --lr 0.1 --gpus 1", ["--model", "vae", "--lr", "0.2"])
        'lr 0.1 there and 0.2 here'
    """
    before, now = _options(shlex.split(recorded)), _options(typed)
    if "model" not in before and "config" not in before and "ckpt_path" in before:
        return None
    if "seeds" in before and "seed" in now:  # of which it was one
        before["seed"] = now["seed"]
        del before["seeds"]
    for name in [*now, *before]:
        if name not in _OPERATION and before.get(name) != now.get(name):
            there, here = (", ".join(each.get(name, ["not given"])) for each in (before, now))
            return f"{name} {there} there and {here} here"
    return None


def _options(words: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    key = None
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            found.setdefault(key, []).extend([value] if equals else [])
        elif key is not None:
            found[key].append(word)
    return found


def folders(root: Path) -> dict[str, Path]:
    """The run folders under a root, by their names."""
    return {path.name: path for path in root.glob("*/*") if path.is_dir()}


def place_of(run: StudyRun, folder: Path | None) -> Place:
    """How far a run is.

    Arguments:
        run: The run.
        folder: Its folder; None where there is none.

    Returns:
        ``new``; ``begun``, where nothing of a training can be used; ``interrupted``, where it can go on; ``failed`` and
        ``diverged``; ``trained``, where the evaluation is missing; ``done``.

    Raises:
        ZooError: where the folder is that of another run: it was made with other options.
    """
    if folder is None:
        return "new"
    try:
        record = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    except ZooError:
        record = {}
    if isinstance(record.get("command"), str) and (found := differing(record["command"], run.fit)):
        raise ZooError(
            f"{folder} is a run with other settings: {found}.\n"
            "Give the study another folder with --out, or remove what is to be trained anew."
        )
    state = record.get("state")
    if state == "finished":
        return "done" if run.evaluate is None or _evaluated(run, folder) else "trained"
    if state == "diverged":
        return "diverged"
    resumable = (folder / "checkpoints" / "last.ckpt").exists()
    if state == "failed":
        return "failed"
    return "interrupted" if resumable else "begun"


def _evaluated(run: StudyRun, folder: Path) -> bool:
    """Whether the checkpoint was evaluated as it is to be; it may have been removed since."""
    try:
        found = read_json(folder / "evaluation.json")
    except ZooError:
        return False
    weights, command = str(found.get("weights")).partition(",")[0], found.get("command")
    there = [name for name in ("best", "last") if (folder / "checkpoints" / f"{name}.ckpt").exists()]
    if not isinstance(found.get("metrics"), dict) or weights != (run.checkpoint or next(iter(there), weights)):
        return False
    return not isinstance(command, str) or differing(command, run.evaluate or []) is None


def remove(folder: Path) -> None:
    """Remove a run that is to be trained anew."""
    shutil.rmtree(folder, ignore_errors=True)
