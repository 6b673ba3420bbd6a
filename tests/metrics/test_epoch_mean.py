"""Means over an epoch: each example counts once, in double precision, and nothing is left of an epoch before."""

import pytest
import torch

from zoo.metrics.epoch_mean import EpochMean


def test_examples_count_and_not_batches():
    mean = EpochMean()
    for value, examples in ((1.0, 3), (5.0, 1)):
        mean.update(torch.tensor(value), examples)
    assert mean.compute() == 2
    mean.reset()
    mean.update(torch.tensor(7.0), 2)
    assert mean.compute() == 7


def test_sums_are_in_double_precision():
    """A float32 sum of a million values of 16,777,216 and 1 in turn would lose every 1."""
    mean = EpochMean()
    for value in (2.0**24, 1.0) * 50:
        mean.update(torch.tensor(value), 1)
    assert mean._sum.item() == 50 * (2**24 + 1)


@pytest.mark.parametrize(("given", "got"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_the_mean_is_as_precise_as_the_values(given, got):
    mean = EpochMean()
    mean.update(torch.ones((), dtype=getattr(torch, given)), 1)
    assert mean.compute().dtype == getattr(torch, got)


def test_nothing_of_it_is_stored():
    mean = EpochMean()
    mean.update(torch.ones(()), 1)
    assert not mean.state_dict()
