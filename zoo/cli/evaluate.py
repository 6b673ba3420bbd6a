"""`python -m zoo.evaluate`: a checkpoint, the data of its run, and what is measured of them."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, seed_everything

from zoo import evaluation, registry
from zoo.cli.command import data_options
from zoo.cli.parser import Parser, option_names, unknown_option, unwrapped
from zoo.distributed import require_gpus
from zoo.errors import ZooError
from zoo.files import read_yaml
from zoo.lightning import process_rank, quiet_lightning
from zoo.options import require_seed
from zoo.registry import import_class
from zoo.runs.checkpoints import load, named_in_config
from zoo.runs.folder import newest_config, run_of
from zoo.runs.loggers import log_evaluation
from zoo.runs.peers import explain_lost_peers
from zoo.runs.run_record import origin

__all__ = ["evaluate"]


def evaluate(
    ckpt: str,
    data: str | None,
    data_options: list[str],
    gpus: int | list[int],
    out: Path | None,
    seed: int,
    trust: Sequence[str] | None = None,
    **options: Any,
) -> None:
    """Print, store and draw the evaluation of a checkpoint, as the options of the command say."""
    require_gpus(gpus)
    require_seed(seed)
    quiet_lightning()
    seed_everything(seed, verbose=False)  # data that are drawn at random take it too
    model = load(ckpt, trust=trust or ())
    run = run_of(ckpt)
    examples = _data(run, data, data_options, {*(trust or ()), *named_in_config(ckpt)})
    devices: dict[str, Any] = {"accelerator": "gpu" if gpus else "cpu", "devices": gpus or 1}
    with explain_lost_peers(lambda: "Type the command again."):
        found = evaluation.evaluate(model, examples, seed=seed, **devices, **options)
    if process_rank() != 0:
        return
    found.checkpoint, found.origin = ckpt, origin(ckpt, model)
    out = out or (run or Path(ckpt).parent) / "evaluation.json"
    print(found.table())
    pictures = evaluation.draw_samples(model, examples, out.parent / "pictures", seed=seed)
    print("pictures:", *pictures, *found.draw(out.parent / "pictures"))
    print(f"JSON: {found.save(out)}")
    if run is not None and out.resolve().parent == run:
        log_evaluation(run, str(read_yaml(newest_config(run)).get("wandb") or "auto"), found.to_dict())


def _data(run: Path | None, name: str | None, options: list[str], trust: Iterable[str]) -> LightningDataModule:
    """The datamodule of the run's config.yaml, from a module that is trusted, or the named one, with the options typed."""
    stored: dict[str, Any] = {}
    if run is not None:
        section = read_yaml(newest_config(run)).get("data")
        if isinstance(section, dict) and isinstance(section.get("class_path"), str):
            stored = section
    if name is not None:
        registry.require_own_options(name, data_options(options))
        path, fixed = registry.DATA[name][::2] if name in registry.DATA else (name, {})
        kept = stored.get("init_args", {}) if stored.get("class_path") == path else {}
        stored = {"class_path": path, "init_args": {**kept, **fixed}}
    if not stored:
        raise ZooError("no config.yaml beside the checkpoint says what it was trained on: name it with --data NAME.")
    with contextlib.nullcontext() if name is not None else registry.trusting(trust):
        cls = import_class(stored["class_path"], LightningDataModule)
    known = [f"--data.{option}" for option in option_names(cls)]
    for option in [typed.partition("=")[0] for typed in options if typed.startswith("--")]:
        if option not in known:
            raise unknown_option(option, "", ["--ckpt", "--data", "--gpus", "--seed", "--out", *known])
    parser = Parser()
    parser.add_class_arguments(cls, "data", fail_untyped=False)
    parser.set_defaults({f"data.{key}": value for key, value in stored.get("init_args", {}).items()})
    with unwrapped():
        return parser.instantiate_classes(parser.parse(options)).data
