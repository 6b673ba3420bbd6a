"""The short arguments of a command line, understood before anything heavy is imported, and their expansion."""

from collections.abc import Callable
from pathlib import Path

from zoo import registry
from zoo.errors import ZooError

__all__ = ["Command", "expand"]

_ARGUMENTS = ["model", "data", "gpus", "seed", "config", "ckpt_path", "wandb", "compile", "print_config", "help", "help-all"]
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
        if word not in _ARGUMENTS and not word.startswith(_GROUPS) and word not in ("seed_everything", "trainer"):
            near = registry.suggestion(f"--{word}", [f"--{known}" for known in _ARGUMENTS])
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
