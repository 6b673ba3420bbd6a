"""Several processes go on from a checkpoint: as many as before bit for bit, and more or fewer with the very next example."""

from pathlib import Path

import pytest
import torch
from launch import run
from test_resuming import EXAMPLES

TASKS = Path(__file__).with_name("processes.py")


@pytest.mark.slow
def test_several_processes_go_on(tmp_path):
    before = run(TASKS, "whole", tmp_path, 1, 2)
    for count, ranks in run(TASKS, "rest", tmp_path, 1, 2).items():
        for rank, found in enumerate(ranks):
            expected = before[count][rank]
            assert found["seen"] == expected["seen"][2:]
            torch.testing.assert_close(found["weights"], expected["weights"], rtol=0, atol=0)
            assert torch.equal(found["random"], expected["random"]), "each process has its own random state"
    given = [label for rank in before[2] for epoch, labels, _ in rank["seen"][:2] for label in labels]
    assert len(given) == 16
    for count, ranks in run(TASKS, "rest_of_two", tmp_path, 1, 3).items():
        for epoch in (0, 1):
            now = [label for rank in ranks for at, labels, _ in rank["seen"] if at == epoch for label in labels]
            assert sorted([*given, *now] if epoch == 0 else now) == list(range(EXAMPLES)), (count, epoch)
        noise = [batch[2] for rank in (*before[2], *ranks) for batch in rank["seen"]]
        assert len({*noise}) > len(noise) - 4, "but for the batches of the second epoch that begin at the same place"
