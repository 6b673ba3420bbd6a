"""The arguments of every command. Nothing heavy is imported for them."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from zoo import registry
from zoo.cli.arguments import Argument, Arguments

__all__ = ["COMPARE", "ENCODE", "EVALUATE", "FIT", "SAMPLE", "STUDY"]


def _listed(what: str, names: Iterable[str], end: str) -> str:
    return "\n".join(textwrap.wrap(f"{what}: {', '.join([*names, end])}", 96))


_GPUS = "a whole number is needed, 0 for the CPU, -1 for all GPUs, or a list of them: 2,3"

FIT = Arguments(
    "fit",
    "--model NAME [--data NAME] [--gpus N] [options]",
    (
        Argument(
            "model",
            _listed("what to train", registry.MODELS, "or a class of your own: my_file.MyModel"),
            "NAME",
            str,
            entries=registry.MODELS,
        ),
        Argument(
            "data",
            _listed("what to train it on", registry.DATA, "or a class of your own; each model's preset names one"),
            "NAME",
            str,
            entries=registry.DATA,
        ),
        Argument(
            "gpus",
            "train on N GPUs, on those of a list (2,3), on all (-1), on the CPU (0); default: one GPU, if there is one",
            "N",
            list,
            expected=_GPUS,
        ),
        Argument("seed", "random seed, 0 or more (default 0)", "N", int, least=0),
        Argument(
            "seeds",
            "train several seeds, 0..9 or 0,3,5: as one model where that is faster, else one after another",
            "LIST",
            str,
        ),
        Argument(
            "stack",
            "auto (default), on, off: whether --seeds are trained as one model",
            "MODE",
            Literal["auto", "on", "off"],
        ),
        Argument("name", "a name for the run, in place of its number", "NAME", str, setting=True),
        Argument(
            "checkpoint_every",
            "write last.ckpt every N batches, or minutes (10m), not at the end of epochs",
            "N",
            str,
            setting=True,
        ),
        Argument(
            "config",
            "settings over the preset: a file, as a run's config.yaml, or a recipe (python -m zoo lists them)",
            "FILE",
            str,
            several=True,
        ),
        Argument("ckpt_path", "go on with a run: all states, the same folder, the same W&B run", "FILE", str, setting=True),
        Argument(
            "resume",
            "the same with FILE, or the newest checkpoint of the newest run of that model and data",
            "[FILE]",
            str,
            optional=True,
        ),
        Argument(
            "wandb",
            "off, offline, online; default: online where you are logged in, else offline",
            "MODE",
            Literal["auto", "off", "offline", "online"],
            "auto",
            setting=True,
        ),
        Argument(
            "compile",
            "train by torch.compile: half a minute to minutes at the start, then mostly shorter batches",
            type=bool,
            default=False,
            setting=True,
        ),
        Argument("model.OPTION", "an option of the model, also without its group where no other has it:  --lr 3e-4", "V"),
        Argument("data.OPTION", "an option of the data:     --data.root ~/data --data.batch_size 128", "V"),
        Argument(
            "trainer.OPTION", "an option of the Trainer:  --trainer.max_steps 1000 --trainer.precision bf16-mixed", "V"
        ),
        Argument("print_config", "show the whole configuration as YAML and stop"),
        *(Argument(name) for name in ("help", "help-all", "seed_everything", "trainer")),
    ),
    more="""\
Options win over files, files over the preset. Results: runs/<model>-<data>/<number>/.
More:  python -m zoo                          lists models and data sets
       python -m zoo.fit --model NAME --help  the options of that model, and of its data; --help-all: of the Trainer, too
       python -m zoo.sample --help, python -m zoo.evaluate --help    what can be done with a checkpoint""",
    loose=True,
)

_MODEL = Argument("model", "a trained model that comes along: gan-digits (python -m zoo lists them)", "NAME", str)
_CKPT = Argument("ckpt", "or a run's checkpoints/last.ckpt or best.ckpt", "FILE", str)
_TRUST = Argument(
    "trust", "a module or package of your own that the checkpoint's classes may come from", "NAME", str, several=True
)
_SEED = Argument("seed", "random seed (default 0)", "N", int, 0)

_DATA = (
    Argument("data", "another data set than the run's (python -m zoo lists them)", "NAME", str, entries=registry.DATA),
    Argument("data.OPTION", "an option of the data:  --data.root ~/data", "V"),
)
_DEVICE = Argument("device", "cpu, cuda, mps (default cpu)", "DEVICE", str, "cpu")

SAMPLE = Arguments(
    "sample",
    "--model NAME | --ckpt FILE [options]",
    (
        _MODEL,
        _CKPT,
        Argument(
            "what",
            "samples (default); of models that encode also reconstructions, interpolations or traversals\n"
            "of test examples of the run's data",
            "KIND",
            Literal["samples", "reconstructions", "interpolations", "traversals"],
            "samples",
        ),
        Argument(
            "n",
            "how many samples, reconstructions, or rows of interpolations or traversals (default 64)",
            "N",
            int,
            64,
            least=1,
        ),
        Argument(
            "out",
            ".png: a grid of images or a plot of vectors; .npz: the array x, like the data (default samples.png)",
            "FILE",
            Path,
            endings=(".png", ".npz"),
        ),
        Argument(
            "mean",
            "means of p(x|z) in place of draws of it, of models that have it (default: true in pictures of\n"
            "images, false else)",
            "",
            bool,
        ),
        Argument("temperature", "what scales the noise that samples are made of, of models that have one", "T", float),
        *_DATA,
        _SEED,
        _TRUST,
        _DEVICE,
    ),
    about="Draw samples from a trained model, or see what its latents do.",
)

ENCODE = Arguments(
    "encode",
    "--model NAME | --ckpt FILE [options]",
    (
        _MODEL,
        _CKPT,
        Argument(
            "out",
            "train_z, val_z, test_z; and where data have them train_factors, train_label, ... (default codes.npz)",
            "FILE",
            Path,
            Path("codes.npz"),
            endings=(".npz",),
        ),
        *_DATA,
        _SEED,
        _TRUST,
        _DEVICE,
    ),
    about="Write the codes encode(x) of all examples of the run's data.",
)

EVALUATE = Arguments(
    "evaluate",
    "--model NAME | --ckpt FILE [options]",
    (
        _MODEL,
        _CKPT,
        *_DATA,
        Argument(
            "metrics",
            "only these, and what the model logs: nll, names or groups of --scores and --sample_scores, or all",
            "LIST",
            str,
        ),
        Argument(
            "samples",
            "importance samples per example for log p(x), of models that have one (default 0: none)",
            "K",
            int,
            0,
            least=0,
        ),
        Argument("examples", "use only the first N test examples for --samples", "N", int, least=1),
        Argument(
            "precision",
            "that of networks for --samples: 32-true (default) or bf16-mixed, in less than half the time on CPUs and\n"
            "GPUs that have units for it; test/nll_bf16_error says by how much the NLL differs",
            "KIND",
            Literal["32-true", "bf16-mixed"],
            "32-true",
        ),
        Argument(
            "scores",
            "disentanglement scores, of codes of data with known factors: all (default), none, or mig,sap,...",
            "LIST",
            str,
        ),
        Argument(
            "points",
            "points for them, and half as many test points (default 10000, as in the study)",
            "N",
            int,
            10000,
            least=2,
        ),
        Argument(
            "num_train",
            "votes for the beta-VAE and FactorVAE scores, and half as many fresh ones\n(default 500; the study: 10000)",
            "V",
            int,
            500,
            least=2,
        ),
        Argument(
            "repeats",
            "draws of points, votes and samples; the scores' spread over them is given (default 1)",
            "R",
            int,
            1,
            least=1,
        ),
        Argument(
            "sample_scores",
            "scores of samples beside test examples: all, none (default), or tests (c2st,mmd,mmd_fuse), distances\n"
            "(fd,fd_infinity,kid,mind,sliced_wasserstein), neighborhoods (prdc,clipped), memorization (c_t,authenticity),\n"
            "modes",
            "LIST",
            str,
        ),
        Argument(
            "features",
            "where samples are scored: raw, cnn (a classifier of the data, trained when first needed; the default\n"
            "for images with labels), efficientnet_lite0, or my_file.MyModule[:weights.pt]",
            "NAME",
            str,
        ),
        Argument("sample_count", "test examples, and samples, that are compared (default 2000)", "N", int, 2000, least=2),
        Argument("neighbors", "draw the training example next to each sample, too", "", bool, False),
        Argument(
            "representation",
            "codes to score: encode(x) (mean, the default), draws from q(z|x) (sampled), or both",
            "KIND",
            Literal["mean", "sampled", "both"],
            "mean",
        ),
        Argument(
            "gpus",
            "N GPUs, those of a list (2,3), all (-1), or the CPU (0, the default)",
            "N",
            list,
            0,
            expected=_GPUS,
        ),
        _SEED,
        _TRUST,
        Argument("out", "JSON file (default: evaluation.json in the run folder, or in one called NAME)", "FILE", Path),
    ),
    about="Test a trained model on the test split of its data.",
)

COMPARE = Arguments(
    "compare",
    "RUN... [options]",
    (
        Argument("by", "tell rows apart by these options alone: --by model.latent_dim", "KEY", str, several=True),
        Argument("metrics", "nll,elbo or test/nll or val/* (default: all of the test split)", "LIST", str),
        Argument("sort", "a metric, or name (default: the first that is ranked)", "METRIC", str),
        Argument("filter", "only some runs: model=vae, model.lr!=0.001, state=finished", "KEY=VALUE", str, several=True),
        Argument("baseline", "compare with this row, and not with the best", "ROW", str),
        Argument("published", "show numbers of the literature (default true)", "BOOL", bool, True),
        Argument(
            "side-by-side", "what was measured in several ways as columns of one table, not in a table each", "", bool, False
        ),
        Argument("all", "everything, however wide: all tests, costs, all differences of configuration", "", bool, False),
        Argument("out", "also write report.html, table.md, table.tex, long.csv, wide.csv, comparison.json", "DIR", Path),
        Argument("analysis", "analyze a study instead: agreement of scores, variance, selection, transfer", "", bool, False),
        Argument("udr", "with it, UDR of models of one setting, from their checkpoints", "", bool, False),
        Argument("strict", "exit status 2 where a metric was not measured in one way", "", bool, False),
        Argument("fail-if", "exit status 1 if a row fulfills it: 'nll > baseline + ci'", "CONDITION", str),
        Argument("neighbors", "the training examples next to the drawn samples, in the report", "", bool, False),
        Argument("evaluate", "first evaluate the checkpoints of runs that were not", "", bool, False),
        Argument("samples", "importance samples for that, as in zoo.evaluate", "K", int, least=0),
        Argument("examples", "and the first N test examples for them", "N", int, least=1),
    ),
    about="Compare runs: seeds as one row, numbers that were measured alike as one block, differences with their tests.",
    more="""\
RUN is a run folder, a folder of them, a pattern, or wandb:ENTITY/PROJECT[/GROUP]; with --analysis also a CSV file.
  python -m zoo.compare runs
  python -m zoo.compare runs/vae-digits runs/gan-digits --metrics nll,elbo --out comparison
  python -m zoo.compare runs --baseline vae --fail-if 'nll > baseline + ci'
  python -m zoo.compare runs --analysis --out study""",
    words="RUN",
)

STUDY = Arguments(
    "study",
    "FILE [options]",
    (
        Argument("dry-run", "list what is missing, with an estimate from a few batches of each setting", "", bool, False),
        Argument("out", "the study's folder (default: the file's `out`, else studies/<name of the file>)", "DIR", Path),
        Argument(
            "set",
            "an option for all runs, over the file's: data.root=~/data, evaluate.samples=100",
            "KEY=VALUE",
            str,
            several=True,
        ),
        Argument("seeds", "so many seeds, in place of the file's", "N", int, least=1),
        Argument("only", "only settings with such a name: 'factor_vae*'", "PATTERN", str, several=True),
        Argument("workers", "runs at a time (default: one for each core; on GPUs per_gpu for each)", "N", int, least=1),
        Argument("threads", "threads of a run (default 1)", "N", int, least=1),
        Argument(
            "gpus",
            "use N GPUs, those of a list (2,3), all (-1, the default), or the CPU (0)",
            "N",
            list,
            expected=_GPUS,
        ),
        Argument("per_gpu", "runs that share a GPU; workers beyond that are on the CPU", "N", int, least=1),
        Argument("stack", "true: seeds of a setting are trained as one model where that can be", "BOOL", bool),
        Argument("retries", "how often a run that failed or diverged is tried again (default 1)", "N", int, least=0),
        Argument("warm", "false: each command imports torch anew, and is not forked from a worker that has", "BOOL", bool),
        Argument("minutes", "stop cleanly after so many; the same command goes on", "M", float),
    ),
    about="Train and evaluate many models, what is missing of them, and compare them.",
    more="""\
FILE holds a grid of models, options and seeds (docs/study.md), as those that come along: studies/smoke, studies/small.
  python -m zoo.study configs/studies/smoke.yaml
  python -m zoo.study configs/studies/small.yaml --dry-run
The same command goes on with a study that was stopped or killed. Results: studies/<name>/runs.csv and comparison/.""",
    words="FILE",
)
