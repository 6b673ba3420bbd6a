"""`python -m zoo.evaluate`: a checkpoint, the data of its run, and what is measured of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything

from zoo import evaluation, trained
from zoo.cli.options import EVALUATE
from zoo.cli.run_data import run_data
from zoo.distributed import require_gpus
from zoo.evaluation.neighbors import NEIGHBORS
from zoo.files import read_yaml
from zoo.lightning import process_rank, quiet_lightning
from zoo.options import require_seed
from zoo.runs.checkpoints import load
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
    neighbors: bool = False,
    **options: Any,
) -> None:
    """Print, store and draw the evaluation of a checkpoint, as the options of the command say."""
    require_gpus(gpus)
    require_seed(seed)
    quiet_lightning()
    seed_everything(seed, verbose=False)  # data that are drawn at random take it too
    model = load(ckpt, trust=trust or ())
    run = run_of(ckpt)
    examples = run_data(ckpt, data, data_options, trust or (), EVALUATE)
    devices: dict[str, Any] = {"accelerator": "gpu" if gpus else "cpu", "devices": gpus or 1}
    with explain_lost_peers(lambda: "Type the command again."):
        found = evaluation.evaluate(model, examples, seed=seed, **devices, **options)
    if process_rank() != 0:
        return
    card = trained.find(ckpt)
    found.checkpoint, found.origin = ckpt if card is None else card.name, origin(ckpt, model)
    out = out or (run or (Path(ckpt).parent if card is None else Path(card.name))) / "evaluation.json"
    print(found.table())
    folder = out.parent / "pictures"
    (folder / NEIGHBORS).unlink(missing_ok=True)  # of samples that were drawn before
    if found.samples is not None and found.samples.absent:
        print("pictures: none without the data")
    else:
        pictures = evaluation.draw_samples(model, examples, folder, seed=seed)
        if neighbors:
            pictures.append(evaluation.draw_neighbors(model, examples, folder, seed=seed))
        print("pictures:", *pictures, *found.draw(folder))
    print(f"JSON: {found.save(out)}")
    if run is not None and out.resolve().parent == run:
        log_evaluation(run, str(read_yaml(newest_config(run)).get("wandb") or "auto"), found.to_dict())
