"""`python -m zoo.evaluate` on two processes, here of the CPU: one table, one file, the numbers of one process."""

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

COMMAND = """
import sys
from zoo import evaluation
from zoo.cli.evaluate import evaluate

computed = evaluation.evaluate
evaluation.evaluate = lambda model, data, **options: computed(model, data, **{**options, "devices": int(sys.argv[1])})
evaluate("run/checkpoints/last.ckpt", None, [], 0, None, 5, samples=2, scores=None)
"""


@pytest.mark.slow
def test_two_processes_print_one_table(tmp_path):
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    train = ["-m", "zoo.fit", "--model", "vae", "--data", "digits", "--trainer.max_steps", "3", "--wandb", "off"]
    train += ["--trainer.accelerator", "cpu", "--data.eval_batch_size", "31"]
    subprocess.run([sys.executable, *train], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (tmp_path / "runs" / "vae-digits" / "1").rename(tmp_path / "run")
    found = []
    for devices in (1, 2):
        words = [sys.executable, str(script), str(devices)]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("VAE on digits, test split, 250 examples") == 1
        assert done.stdout.count("JSON: ") == 1
        found.append(json.loads((tmp_path / "run" / "evaluation.json").read_text())["metrics"])
        (tmp_path / "run" / "evaluation.json").unlink()
    one, two = ({name: value for name, value in each.items() if not name.endswith("seconds")} for each in found)
    assert one.keys() == two.keys()
    assert two == pytest.approx(one, rel=1e-6, abs=1e-5)
