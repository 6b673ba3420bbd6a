"""Makes the trained models that come along, in zoo/trained/, and the records of their runs, in results/digits/.

    python results/trained.py                        all that are not made yet
    python results/trained.py vae-digits gan-digits  these, from their runs where there are some
    python results/trained.py --table                what docs/trained_models.md says of them

Each is made by the two commands that anyone would type, for training and for evaluation; what is kept of a run is the model
alone (``zoo.runs.export``). noise_mixture is made of pixelcnn-digits, which comes before it.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from zoo.cli.main import main as zoo
from zoo.files import read_json, read_yaml, write_atomically
from zoo.runs.checkpoints import read
from zoo.runs.export import export, weights_of
from zoo.trained import FOLDER, Card, cards, names, read_card

RECORDS = Path(__file__).resolve().parent / "digits"
LARGEST = 2_000_000  # bytes of a checkpoint
_KEPT = ("config.yaml", "run.json", "metrics.csv", "evaluation.json", "evaluation.npz")
_SCORES = "--sample_scores all --repeats 3"
_SMALL = "so that the file is small"


class Made(NamedTuple):
    """What is typed to train and to evaluate a model, after the command's name, and how it differs from the preset."""

    arguments: str
    evaluation: str = f"--samples 64 {_SCORES}"
    differs: str = ""
    license: str = "MIT"


_DIGITS = "UCI, Optical Recognition of Handwritten Digits, CC BY 4.0"
MADE = {
    "made-digits": Made("--model made --data digits --model.hidden 384", differs=f"384 hidden units of 512, {_SMALL}"),
    "pixelcnn-digits": Made("--model pixelcnn --data digits"),
    "memorizer-digits": Made("--model memorizer --data digits", license=f"MIT; the training images in it: {_DIGITS}"),
    "noise_mixture-digits": Made(
        "--model noise_mixture --data digits --model.checkpoint pixelcnn-digits --trainer.max_epochs 1",
        differs="its base is pixelcnn-digits, and nothing is trained",
    ),
    "gan-digits": Made("--model gan --data digits", _SCORES),
    "gan-toy_ring": Made(
        "--model gan --data toy_ring --trainer.max_steps 2000",
        f"{_SCORES} --sample_count 1000",
        differs="2,000 batches of 5,000",
    ),
    "vae-digits": Made("--model vae --data digits"),
    "af_prior_vae-digits": Made(
        "--model af_prior_vae --data digits --model.prior_options '{hidden: 224}'",
        differs=f"224 hidden units of 320 in the steps of the prior, {_SMALL}",
    ),
    "flow_posterior_vae-digits": Made("--model flow_posterior_vae --data digits"),
    "beta_vae-digits": Made("--model beta_vae --data digits"),
    "annealed_vae-digits": Made("--model annealed_vae --data digits"),
    "factor_vae-digits": Made("--model factor_vae --data digits"),
    "beta_tcvae-digits": Made("--model beta_tcvae --data digits"),
    "dip_vae-digits": Made("--model dip_vae --data digits"),
    "flowpp-digits": Made("--model flowpp --data digits --model.filters 24", differs=f"24 filters of 32, {_SMALL}"),
}


def make(name: str, runs: Path) -> None:
    """Train the model unless it is there, export it, evaluate the exported one, write its card, keep the run's records."""
    made, run = MADE[name], runs / name / "1"
    if not (run / "run.json").exists() or read_json(run / "run.json")["state"] != "finished":
        where = f"--seed 0 --wandb off --trainer.default_root_dir {runs}" if runs != Path("runs") else "--seed 0 --wandb off"
        words = shlex.split(f"{made.arguments} {where}")
        subprocess.run([sys.executable, "-m", "zoo.fit", *words], check=True)
    best = run / "checkpoints" / "best.ckpt"
    checkpoint = best if best.exists() else best.with_name("last.ckpt")
    out = export(checkpoint, FOLDER / f"{name}.ckpt")
    if out.stat().st_size > LARGEST:
        raise SystemExit(f"{name}: {out.stat().st_size:,} bytes, more than {LARGEST:,}: make it smaller")
    _write(_card(name, run, weights_of(checkpoint, read(checkpoint)), {"metrics": {}, "missing": {}}))
    evaluation = run / "evaluation.json"
    zoo("evaluate", shlex.split(f"--model {name} {made.evaluation} --out {evaluation}"))
    _write(_card(name, run, read_card(name).weights, read_json(evaluation)))
    if name.endswith("-digits"):
        kept = RECORDS / name / "1"
        kept.mkdir(parents=True, exist_ok=True)
        for file in (run / each for each in _KEPT):
            if file.exists():
                shutil.copyfile(file, kept / file.name)


def _card(name: str, run: Path, weights: str, evaluation: dict[str, Any]) -> Card:
    made, told = MADE[name], read_json(run / "run.json")
    content = (FOLDER / f"{name}.ckpt").read_bytes()
    return Card(
        name=name,
        model=name.partition("-")[0],
        data=read_yaml(run / "config.yaml")["data"],
        command=f"python -m zoo.fit {made.arguments} --seed {told['seed']}",
        differs=made.differs,
        **{key: told[key] for key in ("seed", "batches", "seconds", "machine", "versions", "commit", "parameters")},
        weights=weights,
        evaluated_by=f"python -m zoo.evaluate --model {name} {made.evaluation}",
        metrics={key: value for key, value in evaluation["metrics"].items() if not key.endswith("_seconds")},
        missing=evaluation["missing"],
        license=made.license,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _write(card: Card) -> None:
    with write_atomically(FOLDER / f"{card.name}.json", text=True) as file:
        file.write(json.dumps(asdict(card), indent=1) + "\n")


def table() -> str:
    """All that there are, as docs/trained_models.md has them."""
    rows = [("name", "measured", "size", "`python -m zoo.fit` with"), ("---",) * 4]
    for card in cards():
        command = card.command.removeprefix("python -m zoo.fit ")
        rows.append((f"`{card.name}`", card.summary, f"{card.bytes / 1e6:.2f} MB", f"`{command}`"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Make what was named, or all that is not made."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="default: all that are not made yet")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default runs)")
    parser.add_argument("--table", action="store_true", help="print the table of docs/trained_models.md, and stop")
    given = parser.parse_args()
    if given.table:
        print(table())
        return
    if unknown := [name for name in given.names if name not in MADE]:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(MADE)}")
    for name in given.names or [name for name in MADE if name not in names()]:
        make(name, given.runs)


if __name__ == "__main__":
    main()
