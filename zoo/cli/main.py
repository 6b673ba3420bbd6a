"""The commands: what each is handed to, what `--help` says, and how errors are shown."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import registry, trained
from zoo.cli.arguments import Arguments
from zoo.cli.command import Command
from zoo.cli.completion import completion
from zoo.cli.importing import importing
from zoo.cli.memory import keep_memory
from zoo.cli.options import COMPARE, ENCODE, EVALUATE, FIT, SAMPLE, STUDY
from zoo.cli.terminal import fitted
from zoo.errors import ZooError

__all__ = ["list_zoo", "main", "run"]


def list_zoo() -> str:
    """The models and data sets, with what each is for; trained models, with what was measured of them."""
    lines = []
    for title, entries in (("Models (--model NAME)", registry.MODELS), ("Data sets (--data NAME)", registry.DATA)):
        width = 2 + max(map(len, entries))
        lines += [title, *(f"  {name:<{width}}{entry.summary}" for name, entry in entries.items()), ""]
    shown = [(card.name, f"{card.bytes / 1e6:.1f} MB, {card.summary}") for card in trained.cards()]
    width = 2 + max(len(name) for name, _ in shown)
    lines.append("Trained models (--model NAME of zoo.sample, zoo.encode, zoo.evaluate)")
    lines += [*(f"  {name:<{width}}{what}" for name, what in shown), ""]
    lines += ["Recipes (--config NAME)", *(f"  {name}" for name in registry.recipes()), ""]
    lines.append("Start:  python -m zoo.fit --model gan        Help:  python -m zoo.fit --help")
    return "\n".join(lines)


def _fit(argv: list[str]) -> None:
    command = Command(argv)
    if not argv or (command.asks_help and command.model is None and command.data is None):
        print(fitted(FIT.help()))
        return
    if not (command.model or command.configs or command.ckpt_path or command.resume is not None or "--help-all" in argv):
        raise ZooError(f"no model named. Type --model NAME: {', '.join(registry.MODELS)}, or my_file.MyModel.")
    with importing():
        from zoo.cli.fit import fit

    fit(command)


def _with_checkpoint(typed: dict[str, Any], command: Arguments) -> dict[str, Any]:
    """The values of a command's arguments, with the checkpoint of a trained model in the place of its name."""
    options = {**command.defaults, **typed}
    name = options.pop("model")
    if name is not None and options["ckpt"] is not None:
        raise ZooError("--model and --ckpt: one of them is enough.")
    if name is not None:
        options["ckpt"] = str(trained.read_card(name).path)
    elif options["ckpt"] is None:
        raise ZooError(
            f"--model NAME, a trained model, or --ckpt FILE is missing.\n"
            f"`python -m zoo.{command.command} --help` explains the options."
        )
    elif (card := trained.find(options["ckpt"])) is not None:
        options["ckpt"] = str(card.path)
    return options


def _sample(argv: list[str]) -> None:
    options, data_options = SAMPLE.read(argv)
    options = _with_checkpoint(options, SAMPLE)
    with importing():
        from zoo.cli.sample import sample

    sample(data_options=data_options, **options)


def _encode(argv: list[str]) -> None:
    options, data_options = ENCODE.read(argv)
    options = _with_checkpoint(options, ENCODE)
    with importing():
        from zoo.cli.encode import encode

    encode(data_options=data_options, **options)


def _evaluate(argv: list[str]) -> None:
    options, data_options = EVALUATE.read(argv)
    options = _with_checkpoint(options, EVALUATE)
    with importing():
        from zoo.cli.evaluate import evaluate

    evaluate(data_options=data_options, **options)


def _compare(argv: list[str]) -> None:
    typed, runs = COMPARE.read(argv)
    if not runs:
        raise ZooError("no run named. Type a run folder, or one that holds some: python -m zoo.compare runs")
    options = {name.replace("-", "_"): value for name, value in {**COMPARE.defaults, **typed}.items()}
    for name in ("by", "filter"):
        options[name] = options[name] or []
    options["metrics"] = [name for name in (options["metrics"] or "").split(",") if name]
    sizes = {name: value for name in ("samples", "examples") if (value := options.pop(name)) is not None}
    with importing():
        from zoo.cli.compare import compare

    defaults = {name: value for name, value in EVALUATE.defaults.items() if name != "model"}
    compare(runs, evaluation={"data_options": [], **defaults, **sizes}, **options)


def _study(argv: list[str]) -> None:
    typed, files = STUDY.read(argv)
    if len(files) != 1:
        raise ZooError("one file of a study is needed: python -m zoo.study configs/studies/smoke.yaml")
    options = {name.replace("-", "_"): value for name, value in {**STUDY.defaults, **typed}.items()}
    for name in ("set", "only"):
        options[name] = options[name] or []
    from zoo.cli.study import study

    study(files[0], **options)


def _require_own_packages() -> None:
    """`python -m` puts the current folder first on the path: a package there with one of our names would hide ours."""
    home = Path(__file__).resolve().parents[2]
    for name in ("datamodules", "callbacks"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or Path(found.origin).resolve().parent.parent != home:
            raise ZooError(f"{found and found.origin} hides the zoo's own package {name}: rename it, or start elsewhere.")


def _version() -> str:
    """The versions of the zoo and of what it stands on."""
    found = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "pytorch-lightning")]
    return f"zoo {vars(sys.modules['zoo'])['__version__']} ({', '.join(found)}, Python {platform.python_version()})"


def run(argv: list[str] | None = None) -> None:
    """``python -m zoo`` and ``zoo``: a command with its arguments, ``zoo fit --model vae``; without any, what there is."""
    command, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if command.replace("_", "-") in ("--version", "-V"):
        print(_version())
    elif command == "--completion":
        _shown(lambda: print(completion(rest[0] if rest else "")))
    elif command in _COMMANDS:
        main(command, rest)
    elif command.startswith("--model") or command.startswith("--data"):
        main("fit", [command, *rest])  # what else would it be
    elif command in ("", "-h", "--help", "list"):
        _shown(lambda: print(fitted(list_zoo())))
    else:
        there = f"{registry.suggestion(command, _COMMANDS)} There are {', '.join(_COMMANDS)}."
        print(f"error: no command {command}.{there}", file=sys.stderr)
        raise SystemExit(2)


def main(command: str, argv: list[str] | None = None) -> None:
    """Run a command; what a person got wrong is printed in a line or two, exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == command:  # python -m zoo.fit fit
        argv = argv[1:]
    # How long GNU's OpenMP lets threads spin while they wait for work: its default stops other programs' threads, and so
    # their own, on a machine that is in use; without any, small networks train several times slower on one that is not.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    keep_memory()
    _shown(lambda: _run(command, argv))


def _run(command: str, argv: list[str]) -> None:
    if argv[:1] == ["--version"]:
        print(_version())
        return
    _require_own_packages()
    table, function = _COMMANDS[command]
    if command != "fit" and not {"-h", "--help"}.isdisjoint(argv):
        print(fitted(table.help()))
        return
    function(argv)


def _shown(function: Callable[[], None]) -> None:
    """Call it; what a person got wrong is printed in a line or two, and a warning in one, without its place in the code."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *place, **more: f"warning: {' '.join(str(message).split())}\n"
    try:
        function()
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(getattr(error, "status", 2)) from None
    except BrokenPipeError:  # whoever reads, as in `... --help | head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        warnings.formatwarning = before


_COMMANDS = {
    "fit": (FIT, _fit),
    "sample": (SAMPLE, _sample),
    "encode": (ENCODE, _encode),
    "evaluate": (EVALUATE, _evaluate),
    "compare": (COMPARE, _compare),
    "study": (STUDY, _study),
}
