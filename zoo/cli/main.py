"""The commands: what each is handed to, what `--help` says, and how errors are shown."""

import importlib.util
import os
import sys
import textwrap
from pathlib import Path

from zoo import registry
from zoo.cli.command import Command
from zoo.cli.options import evaluate_options, sample_options
from zoo.errors import ZooError

__all__ = ["help_text", "list_zoo", "main"]

_HELP = """\
usage: python -m zoo.fit --model NAME [--data NAME] [--gpus N] [options]

  --model NAME       what to train: {models}
                     or a class of your own: my_file.MyModel
  --data NAME        what to train it on: {data}
                     or a class of your own; each model's preset names one
  --gpus N           train on N GPUs; 0 trains on the CPU (default: one GPU where there is one)
  --seed N           random seed (default 0)
  --config FILE      settings from a YAML file, such as a run's config.yaml, over the preset
  --ckpt_path FILE   go on with a run: all states, the same folder, the same W&B run
  --wandb MODE       off, offline, online; default: online where you are logged in, else offline
  --compile          train by torch.compile: half a minute to minutes at the start, then mostly shorter batches
  --model.OPTION V   an option of the model:    --model.lr 3e-4
  --data.OPTION V    an option of the data:     --data.root ~/data --data.batch_size 128
  --trainer.OPTION V an option of the Trainer:  --trainer.max_steps 1000 --trainer.precision bf16-mixed
  --print_config     show the whole configuration as YAML and stop

Options win over files, files over the preset. Results: runs/<model>-<data>/<number>/.
More:  python -m zoo                          lists models and data sets
       python -m zoo.fit --model NAME --help  the options of that model, and of its data
       python -m zoo.fit --help-all           every option of the Trainer as well
       python -m zoo.sample --help            samples from a checkpoint
       python -m zoo.evaluate --help          test metrics of a checkpoint"""

def help_text() -> str:
    """What ``--help`` says; the names of models and data sets take as many lines as they need."""
    lists = {"models": registry.MODELS, "data": registry.DATA}
    wrapped = {key: textwrap.wrap(", ".join(names), 80) for key, names in lists.items()}
    return _HELP.format(**{key: f"\n{'':21}".join(lines) for key, lines in wrapped.items()})


def list_zoo() -> str:
    """The models and data sets, with what each is for."""
    lines = []
    for title, entries in (("Models (--model NAME)", registry.MODELS), ("Data sets (--data NAME)", registry.DATA)):
        lines += [title, *(f"  {name:<21}{entry.summary}" for name, entry in entries.items()), ""]
    lines.append("Start:  python -m zoo.fit --model gan        Help:  python -m zoo.fit --help")
    return "\n".join(lines)


def _fit(argv: list[str]) -> None:
    command = Command(argv)
    asks_help = any(word in ("-h", "--help") for word in argv)
    if not argv or (asks_help and command.model is None and command.data is None):
        print(help_text())
        return
    if command.model is None and not command.configs and not command.ckpt_path and "--help-all" not in argv:
        raise ZooError(f"no model named. Type --model NAME: {', '.join(registry.MODELS)}, or my_file.MyModel.")
    from zoo.cli.fit import fit

    fit(command)


def _sample(argv: list[str]) -> None:
    options = sample_options(argv)
    from zoo.cli.sample import sample

    sample(**vars(options))


def _evaluate(argv: list[str]) -> None:
    options, data_options = evaluate_options(argv)
    from zoo.cli.evaluate import evaluate

    evaluate(data_options=data_options, **vars(options))


def _require_own_packages() -> None:
    """`python -m` puts the current folder first on the path: a package there with one of our names would hide ours."""
    home = Path(__file__).resolve().parents[2]
    for name in ("datamodules", "callbacks"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or Path(found.origin).resolve().parent.parent != home:
            raise ZooError(f"{found and found.origin} hides the zoo's own package {name}: rename it, or start elsewhere.")


def main(verb: str, argv: list[str] | None = None) -> None:
    """Run ``fit``, ``sample`` or ``evaluate``; what a person got wrong is printed in a line or two, exit status 2."""
    # How long GNU's OpenMP lets threads spin while they wait for work: its default stops other programs' threads, and so
    # their own, on a machine that is in use; without any, small networks train several times slower on one that is not.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        _require_own_packages()
        {"fit": _fit, "sample": _sample, "evaluate": _evaluate}[verb](sys.argv[1:] if argv is None else argv)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # whoever reads, as in `... --help | head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
