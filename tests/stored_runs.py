"""Run folders as trainings and evaluations leave them, made in a moment."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import yaml

CLASSES = {"vae": "zoo.models.VAE", "gan": "zoo.models.GAN", "flowpp": "zoo.models.FlowPlusPlus"}


def write_run(
    folder: Path,
    model: str = "vae",
    seed: int = 0,
    options: dict | None = None,
    state: str | None = "finished",
    rows: int = 5,
    metrics: dict | None = None,
    protocol: dict | None = None,
    log_p: np.ndarray | None = None,
    evaluation: dict | None = None,
    data: str = "datamodules.Digits",
) -> Path:
    """A run folder; without ``metrics`` it has not been evaluated."""
    folder.mkdir(parents=True)
    config = {
        "seed_everything": seed,
        "trainer": {"max_steps": 100, "default_root_dir": None, "precision": None},
        "model": {"class_path": CLASSES.get(model, model), "init_args": {"lr": 0.001, **(options or {})}},
        "data": {"class_path": data, "init_args": {"batch_size": 64, "seed": None}},
        "wandb": "off",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if rows:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "epoch", "train/loss", "val/elbo"])
            for i in range(rows):
                writer.writerow(
                    [20 * i + 19, i, 100 / (i + 1) + seed, f"{-90 - 10 / (i + 1) - seed:.4f}" if i % 2 == 0 else ""]
                )
    if state is not None:
        facts = {
            "schema": 1,
            "model": model,
            "data": "digits",
            "seed": seed,
            "state": state,
            "error": "out of memory" if state == "failed" else None,
            "command": f"python -m zoo.fit --model {model} --seed {seed}",
            "parameters": 1234,
            "seconds": 60.0 + seed,
            "examples": 6400,
            "batches": 100,
            "peak_memory_bytes": 2**28,
            "machine": "a machine, 2 cores",
            "versions": {"torch": "2.13.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "clock": [[20, 1280, 12.0], [100, 6400, 60.0 + seed]],
        }
        (folder / "run.json").write_text(json.dumps(facts))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(f"{model} {seed} {options}".encode())
    if metrics is not None:
        write_evaluation(folder, metrics, protocol, log_p, **(evaluation or {}))
    return folder


def write_evaluation(
    folder: Path, metrics: dict, protocol: dict | None = None, log_p=None, name="evaluation", **changes
) -> None:
    """An ``evaluation.json``, with log p of each example where it is given."""
    if log_p is not None:
        np.savez(folder / f"{name}.npz", log_p=np.asarray(log_p, dtype=np.float64))
        metrics = {"test/nll": -float(np.mean(log_p)), **metrics}
    how = {"kind": "bound", "draws": 100, "n": 250 if log_p is None else len(log_p), "examples_sha256": "0" * 64}
    known = {metric: {"n": 250, "draws": 1} for metric in metrics} | ({"test/nll": how} if "test/nll" in metrics else {})
    content = {
        "schema": 1,
        "model": "VAE",
        "data": "digits",
        "levels": 17,
        "split": "test",
        "examples": 250,
        "seed": 0,
        "weights": "best",
        "metrics": metrics,
        "protocol": {**known, **(protocol or {})},
        "samples_per_second": 1000.0,
        "log_p_sha256": None if log_p is None else hashlib.sha256(np.asarray(log_p, dtype=np.float64).tobytes()).hexdigest(),
        "checkpoint_sha256": hashlib.sha256((folder / "checkpoints" / "best.ckpt").read_bytes()).hexdigest(),
        **changes,
    }
    (folder / f"{name}.json").write_text(json.dumps(content))
