"""Memory that is kept from step to step."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY

FAULTS = """
import resource, sys
import torch
from zoo.cli.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.zeros(2**22) for _ in range(8)]  # 16 MB each
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if keep_memory():
    faults()
    print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's C library")
def test_what_a_step_has_freed_is_there_for_the_next_one():
    """20 steps of 128 MB would ask for 650,000 pages."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    if not done.stdout:
        pytest.skip("another C library")
    assert int(done.stdout) < 20_000
