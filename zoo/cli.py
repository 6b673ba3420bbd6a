"""The words of the command line, understood before anything heavy is imported, and how errors are shown."""

import importlib.util
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from zoo import registry
from zoo.errors import ZooError
from zoo.verbs import evaluate_options, sample_options

__all__ = ["Command", "expand", "help_text", "list_zoo", "main"]

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

_WORDS = ["model", "data", "gpus", "seed", "config", "ckpt_path", "wandb", "compile", "print_config", "help", "help-all"]
_GROUPS = ("model.", "data.", "trainer.")


class Command:
    """The short words of a command line, taken out of it, and what is left.

    Arguments:
        argv: What was typed.

    Attributes:
        model, data: A registered name, a dotted class path, or None.
        gpus: The number of GPUs, or None.
        ckpt_path: The checkpoint to go on with, or None.
        configs: The files given with ``--config``, in the order typed.
        run_config: The configuration of the run that goes on, once it is found; it stands in a preset's place.
        rest: Everything else, in the order typed, as ``--key=value`` or ``--key value``.
    """

    def __init__(self, argv: list[str]):
        self.model = self.data = self.ckpt_path = None
        self.gpus: int | None = None
        self.configs: list[str] = []
        self.run_config: Path | None = None
        self.rest: list[str] = []
        tokens = iter(argv)
        for token in tokens:
            key, equals, value = token.partition("=")
            word = key.removeprefix("--") if key.startswith("--") else {"-c": "config", "-h": "help"}.get(key)
            if word is None:
                self.rest.append(token)
                continue
            self._check(word)
            if word not in ("model", "data", "gpus", "seed", "config", "ckpt_path"):
                self.rest.append(token)
                continue
            value = value if equals else next(tokens, None)
            if value is None or (not equals and value.startswith("--")):
                raise ZooError(f"--{word} needs a value")
            if word == "gpus":
                if not value.isdecimal():
                    raise ZooError(f"--gpus {value}: a whole number is needed, 0 for the CPU")
                self.gpus = int(value)
            elif word == "config":
                self.configs.append(value)
            elif word == "seed":
                self.rest.append(f"--seed_everything={value}")
            else:
                setattr(self, word, value)
        self.model = _known(self.model, "model", registry.MODELS)
        self.data = _known(self.data, "data set", registry.DATA)

    @staticmethod
    def _check(word: str) -> None:
        if word not in _WORDS and not word.startswith(_GROUPS) and word not in ("seed_everything", "trainer"):
            near = registry.suggestion(f"--{word}", [f"--{known}" for known in _WORDS])
            raise ZooError(f"no option --{word}.{near}\n`--help` explains the options.")


def _known(name: str | None, kind: str, entries: dict[str, registry.Entry]) -> str | None:
    """A registered name or a dotted path as it is; else ZooError with the nearest name."""
    if name is None or name in entries or "." in name:
        return name
    raise ZooError(
        f"no {kind} {name!r} among {', '.join(entries)}.{registry.suggestion(name.lower(), entries)}\n"
        "A class of your own is given with its module: my_file.MyClass."
    )


def expand(command: Command, ancestor: Callable[[str], str] = lambda path: "default") -> list[str]:
    """The arguments that LightningCLI understands: presets, then files, then words, then options.

    It reads from left to right and the last one wins, so what was typed wins over files and files over presets, wherever
    they stood. ``ancestor`` tells for a class of the user's own which registered model's preset suits it.

    Example:
        >>> [Path(a).name for a in expand(Command(["--model.lr", "3e-4", "--model", "gan", "--gpus", "2"]))]
        ['gan.yaml', '--model=zoo.models.GAN', '--trainer.accelerator=gpu', '--trainer.devices=2', '--model.lr', '3e-4']
    """
    files: list[str | Path] = [command.run_config] if command.run_config else []
    words: list[str] = []
    if command.model is not None:
        known = command.model in registry.MODELS
        name = command.model if known else ancestor(command.model)
        files += [path for path in (registry.preset(name), registry.preset(f"{name}-{command.data}")) if path]
        words.append(f"--model={registry.MODELS[name].path if known else command.model}")
    if command.data is not None:
        words.append(f"--data={registry.DATA[command.data].path if command.data in registry.DATA else command.data}")
    if command.gpus is not None:
        words += [f"--trainer.accelerator={'gpu' if command.gpus else 'cpu'}", f"--trainer.devices={command.gpus or 1}"]
    resume = [] if command.ckpt_path is None else [f"--ckpt_path={command.ckpt_path}"]
    return [*(f"--config={file}" for file in (*files, *command.configs)), *words, *command.rest, *resume]


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
    from zoo.training import fit

    fit(command)


def _sample(argv: list[str]) -> None:
    options = sample_options(argv)
    from zoo.sampling import sample

    sample(options)


def _evaluate(argv: list[str]) -> None:
    options = evaluate_options(argv)
    from zoo.evaluation import evaluate

    evaluate(*options)


def _require_own_packages() -> None:
    """`python -m` puts the current folder first on the path: a package there with one of our names would hide ours."""
    home = Path(__file__).resolve().parent.parent
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
