"""The words of ``zoo.sample`` and ``zoo.evaluate``, understood before anything heavy is imported."""

import argparse
from pathlib import Path

from zoo import registry
from zoo.errors import ZooError

__all__ = ["evaluate_options", "sample_options"]


class _Words(argparse.ArgumentParser):
    """Exact options only; an error is a line or two, with the nearest option for one that is unknown."""

    def __init__(self, verb: str, description: str):
        super().__init__(f"python -m zoo.{verb}", description=description, allow_abbrev=False)
        self.verb = verb
        self.add_argument("--ckpt", required=True, metavar="FILE", help="a run's checkpoints/last.ckpt or best.ckpt")
        self.add_argument("--seed", type=int, default=0, help="random seed (default 0)")

    def error(self, message: str):
        """Raise ZooError."""
        raise ZooError(f"{message}.\n`python -m zoo.{self.verb} --help` explains the options.")

    def refuse(self, words: list[str]) -> None:
        """ZooError for words that are no options."""
        if words:
            near = registry.suggestion(words[0].partition("=")[0], self._option_string_actions)
            raise ZooError(f"no option {words[0]}.{near}\n`python -m zoo.{self.verb} --help` explains the options.")


def sample_options(argv: list[str]) -> argparse.Namespace:
    """The options of a ``zoo.sample`` command."""
    parser = _Words("sample", "Draw samples from a trained model.")
    parser.add_argument("--n", type=int, default=64, help="how many samples (default 64)")
    forms = ".png: a grid of images or a plot of vectors; .npz: the array x, like the data (default samples.png)"
    parser.add_argument("--out", type=Path, default=Path("samples.png"), metavar="FILE", help=forms)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default cpu)")
    options, rest = parser.parse_known_args(argv)
    parser.refuse(rest)
    if options.n < 1:
        raise ZooError(f"--n {options.n}: 1 or more is needed")
    if options.out.suffix not in (".png", ".npz"):
        raise ZooError(f"--out {options.out}: the name must end in .png or .npz")
    return options


def evaluate_options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of a ``zoo.evaluate`` command, and the words of it that are options of the data."""
    about = "Test a trained model on the test split of its data. Options of the data (--data.root DIR) are accepted too."
    parser = _Words("evaluate", about)
    parser.add_argument("--data", metavar="NAME", help="another data set than the run's (python -m zoo lists them)")
    samples = "importance samples per example for log p(x), of models that have one (default 0: none)"
    parser.add_argument("--samples", type=int, default=0, metavar="K", help=samples)
    parser.add_argument("--examples", type=int, metavar="N", help="use only the first N test examples for --samples")
    scores = "disentanglement scores, of models that encode data with known factors: all (default), none, or mig,sap,..."
    parser.add_argument("--scores", metavar="LIST", help=scores)
    points = "points for them, and half as many test points (default 10000, as in the study)"
    parser.add_argument("--points", type=int, default=10000, metavar="N", help=points)
    votes = "votes for the beta-VAE and FactorVAE scores, and half as many fresh ones (default 500; the study: 10000)"
    parser.add_argument("--num_train", type=int, default=500, metavar="V", help=votes)
    repeats = "draws of points and votes; the scores' spread over them is given (default 1)"
    parser.add_argument("--repeats", type=int, default=1, metavar="R", help=repeats)
    kinds = "codes to score: encode(x) (mean, the default), draws from q(z|x) (sampled), or both"
    parser.add_argument("--representation", choices=("mean", "sampled", "both"), default="mean", help=kinds)
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="0 (default): CPU; 1: one GPU")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file (default: evaluation.json in the run folder)")
    options, rest = parser.parse_known_args(argv)
    if not any(word.startswith("--data.") for word in rest):
        parser.refuse(rest)
    if options.data is not None and options.data not in registry.DATA and "." not in options.data:
        near = registry.suggestion(options.data, registry.DATA)
        raise ZooError(f"no data set {options.data!r} among {', '.join(registry.DATA)}.{near}")
    for name, value, least in (
        ("samples", options.samples, 0),
        ("examples", options.examples, 1),
        ("gpus", options.gpus, 0),
        ("points", options.points, 2),
        ("num_train", options.num_train, 2),
        ("repeats", options.repeats, 1),
    ):
        if value is not None and value < least:
            raise ZooError(f"--{name} {value}: {least} or more is needed")
    return options, rest
