"""``python -m benchmarks.gpu --minutes 8 --out DIR``: the minutes of an accelerator, most valuable part first."""

import argparse
import os
import sys
import time
from pathlib import Path

__all__ = ["main", "parse"]

# Part -> its share of the minutes; no longer than ``_LONGEST`` seconds. Training has all that the others leave.
_SHARES = {
    **{"selfcheck": 40, "contract": 130, "throughput": 130, "sampling": 20, "scores": 25, "memory": 25, "stacked": 90},
    "training": 110,
}
_LONGEST = {"selfcheck": 20, "memory": 60}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options of a command line; exits with a message where one is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="of the whole run (default 8)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the rows and of the checkpoints")
    parts = {"choices": _SHARES, "default": list(_SHARES), "metavar": "PART", "help": ", ".join(_SHARES)}
    parser.add_argument("--parts", nargs="+", **parts)
    parser.add_argument("--jobs", nargs="+", default=[], help="which long trainings (default: all)")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="long trainings go on from their checkpoints")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder with MNIST (default data)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of packages that aren't there")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: cuda where there is one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="small models: a walk through all of it in a minute of a CPU")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the parts named, print a summary."""
    start, options = time.monotonic(), parse(argv)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products may differ from run to run
    os.environ.setdefault("TQDM_DISABLE", "1")
    if options.wheels:
        from benchmarks.gpu.wheels import install_missing

        print("installed:", ", ".join(install_missing(options.wheels)) or "nothing", flush=True)
    from benchmarks.gpu.run import run  # after the wheels, which it may import

    shares = {part: share for part, share in _SHARES.items() if part in options.parts}
    run(options, shares, _LONGEST, 60 * options.minutes - (time.monotonic() - start))


if __name__ == "__main__":
    sys.exit(main())
