"""The command line before anything heavy is imported: lists, help, arguments and wrong arguments."""

import ast
import inspect
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

import callbacks
import datamodules
import zoo
import zoo.models
from zoo import evaluation, registry
from zoo.cli.command import Command, expand
from zoo.cli.main import list_zoo
from zoo.cli.options import ENCODE, EVALUATE, FIT, SAMPLE, STUDY
from zoo.errors import ZooError
from zoo.runs import training


def python(*arguments: str) -> tuple[float, subprocess.CompletedProcess]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=300
    )
    return time.perf_counter() - start, done


def test_import_is_light():
    """Counted in imported modules, which does not depend on how busy the machine is; the time is shown by -X importtime."""
    code = "import sys; before = set(sys.modules); import zoo; print(*sorted(set(sys.modules) - before))"
    imported = python("-c", code)[1].stdout.split()
    assert "zoo" in imported
    assert not {"torch", "numpy", "pytorch_lightning", "yaml", "wandb"} & set(imported)
    assert len(imported) < 60


def test_import_takes_less_than_100_ms():
    code = "import time; start = time.perf_counter(); import zoo; print(time.perf_counter() - start)"
    assert min(float(python("-c", code)[1].stdout) for _ in range(3)) < 0.1


def test_models_are_imported_when_asked_for():
    from zoo import GAN
    from zoo.models import GenerativeModule

    assert issubclass(GAN, GenerativeModule)

    with pytest.raises(AttributeError, match="Did you mean GAN"):
        _ = zoo.GANN


def test_tab_completion_lists_what_there_is_and_imports_nothing_heavy():
    code = "import sys, zoo, zoo.models, datamodules, callbacks; packages = zoo, zoo.models, datamodules, callbacks\n"
    code += "names = [dir(package) for package in packages]; print('torch' in sys.modules); print(names)"
    light, names = python("-c", code)[1].stdout.splitlines()
    assert light == "False"
    listed = [set(each) for each in ast.literal_eval(names)]
    classes = {entry.path.rpartition(".")[2] for entry in registry.MODELS.values()}
    assert classes | {"load", "evaluation", "runs", "__version__", "registry"} <= listed[0]
    for found, package in zip(listed[1:], (zoo.models, datamodules, callbacks), strict=True):
        assert set(package.__all__) <= found
        assert all(getattr(package, name) is not None for name in found)
    assert all(getattr(zoo, name) is not None for name in listed[0])


@pytest.mark.parametrize(
    "arguments",
    [
        ("zoo",),
        ("zoo.fit",),
        ("zoo.fit", "--help"),
        ("zoo.fit", "--model", "gna"),
        ("zoo.fit", "--modle", "gan"),
        ("zoo.sample", "--help"),
        ("zoo.sample", "--ckpt", "x.ckpt", "--m", "3"),
        ("zoo.evaluate", "--help"),
        ("zoo.study", "--help"),
        ("zoo.study", "x.yaml", "--worker", "3"),
        ("zoo.evaluate", "--ckpt", "x.ckpt", "--data", "dgits"),
    ],
    ids=" ".join,
)
def test_commands_answer_in_under_a_second_and_import_nothing_heavy(arguments):
    times, done = zip(*(python("-X", "importtime", "-m", *arguments) for _ in range(2)), strict=True)
    assert min(times) < 1
    assert "torch" not in {line.rpartition("|")[2].strip() for line in done[0].stderr.splitlines()}


def test_the_list_names_every_model_and_data_set_and_what_it_is_for():
    text = list_zoo()
    for entries in (registry.MODELS, registry.DATA):
        for name, entry in entries.items():
            assert f"  {name}" in text
            assert entry.summary in text


@pytest.mark.parametrize("arguments", [FIT, SAMPLE, ENCODE, EVALUATE, STUDY], ids=lambda each: each.command)
def test_help_fits_on_a_screen(arguments):
    lines = arguments.help().splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 132
    for argument in arguments.table:
        assert not argument.help or f"--{argument.name}" in arguments.help()


@pytest.mark.parametrize(
    ("arguments", "function", "own"),
    [
        # mean: true in pictures
        (SAMPLE, evaluation.sample, {"model", "ckpt", "out", "device", "trust", "what", "data", "mean"}),
        (ENCODE, evaluation.encode, {"model", "ckpt", "data", "out", "device", "trust"}),
        (EVALUATE, evaluation.evaluate, {"model", "ckpt", "data", "gpus", "out", "trust", "neighbors"}),
        (FIT, training.fit, {"model", "data", "gpus", "config", "ckpt_path", "seed", "seeds", "stack"}),
    ],
    ids=["sample", "encode", "evaluate", "fit"],
)
def test_commands_have_the_arguments_of_the_functions_that_they_call(arguments, function, own):
    """By name and with the same default, but for those that say which objects the function is called with."""
    parameters = inspect.signature(function).parameters
    typed = {name: default for name, default in arguments.defaults.items() if name not in own}
    assert {name: parameters[name].default for name in typed} == typed


@pytest.mark.parametrize(
    ("argv", "values", "rest"),
    [
        (["--ckpt", "a", "--data.root", "-1", "--samples=3"], {"ckpt": "a", "samples": 3}, ["--data.root", "-1"]),
        (["--ckpt=a=b", "--out", "x.json"], {"ckpt": "a=b", "out": Path("x.json")}, []),
        (["--seed", "-1", "--ckpt", "a", "--ckpt", "b"], {"seed": -1, "ckpt": "b"}, []),
    ],
)
def test_values_and_what_is_handed_on(argv, values, rest):
    assert EVALUATE.read(argv) == (values, rest)


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        (["--compile"], {"compile": True}),
        (["--compile", "--wandb", "off"], {"compile": True, "wandb": "off"}),
        (["--compile", "false"], {"compile": False}),
        (["--compile=false"], {"compile": False}),
    ],
)
def test_flags(typed, settings):
    assert Command(["--model", "gan", *typed]).settings == settings


@pytest.mark.parametrize("name", [*registry.MODELS])
def test_every_model_has_a_preset(name):
    assert registry.preset(name).is_file()


def test_expand_puts_presets_before_files_and_files_before_what_was_typed():
    typed = "--gpus 4 --model.lr=0.5 --model gan --config mine.yaml --data toy --config=more.yaml --seed 3"
    arguments = expand(Command(shlex.split(typed)))
    names = [Path(argument.removeprefix("--config=")).name for argument in arguments]
    first = names.index("mine.yaml")
    assert names[0] == "gan.yaml"
    assert all(Path(argument).suffix == ".yaml" for argument in names[: first + 2])
    assert names[first:] == [
        "mine.yaml",
        "more.yaml",
        "--model=zoo.models.GAN",
        "--data=datamodules.Toy",
        "--trainer.accelerator=gpu",
        "--trainer.devices=4",
        "--model.lr=0.5",
        "--seed_everything=3",
    ]


def test_gpus_0_is_the_cpu():
    assert {"--trainer.accelerator=cpu", "--trainer.devices=1"} <= set(expand(Command(["--gpus", "0"])))


def test_a_class_of_ones_own_takes_its_ancestors_preset():
    first, second, *_ = expand(Command(["--model", "mine.MyGAN"]), ancestor=lambda path: "gan")
    assert Path(first).name == "gan.yaml"
    assert second == "--model=mine.MyGAN"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--model", "gna"], "no model 'gna' among .*gan. Did you mean gan?"),
        (["--model", "GAN"], "no model 'GAN'.* Did you mean gan?"),
        (["--model", "gan", "--data", "dgits"], "no data set 'dgits'.* Did you mean digits?"),
        (["--modle", "gan"], "no option --modle. Did you mean --model?"),
        (["--mod", "gan"], "no option --mod"),
        (["--model"], "--model needs a value"),
        (["--model", "--gpus", "2"], "--model needs a value"),
        (["--model", "gan", "--gpus", "two"], "--gpus two: a whole number is needed"),
        (["--model", "gan", "--gpus=-2"], "--gpus -2: a whole number is needed"),
        (["--model", "gan", "--wandb", "onlin"], "--wandb: invalid choice: 'onlin' .*Did you mean online?"),
        (["--model", "gan", "--compile", "yes"], "no option yes"),
        (["--model", "gan", "--seed", "one"], "--seed: invalid int value: 'one'"),
        (["--model", "gan", "--model.lr=1", "2"], "no option 2"),
    ],
)
def test_wrong_arguments(given, message):
    with pytest.raises(ZooError, match=message) as caught:
        Command(given)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_folder_that_would_hide_our_packages_is_noticed(tmp_path):
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "zoo.fit", "--model", "gan"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert "hides the zoo's own package callbacks" in done.stderr
