"""Several processes compute and report what one would: every registered model, without a line of its own."""

from pathlib import Path

import pytest
import torch
from launch import run

from zoo import registry

TASKS = Path(__file__).with_name("tasks.py")


def assert_same_metrics(one: dict[str, float], other: dict[str, float], relative: float, absolute: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=relative, abs=absolute), name


def test_a_step_and_a_validation_are_those_of_one_process(tmp_path):
    """In double precision, of a batch of 12 in shares of 7 and 5; of a split of 23 in global batches of 6.

    And an evaluation; batch normalization against torch's; noise; and what is logged of constants, and of the means of the
    first 3, 5, and 7 numbers, on 2 and 4 processes.
    """
    found = run(TASKS, "sample", tmp_path, 1, 2, 4)
    for rank in found[2]:
        for name, (difference, _, weight) in rank["gradients"].items():
            assert difference < 1e-10, (name, weight)
        for name, metrics in rank["metrics"].items():
            assert_same_metrics(found[1][0]["metrics"][name], metrics, 1e-9, 1e-12)
        assert_same_metrics(found[1][0]["evaluation"], rank["evaluation"], 1e-9, 1e-12)
        for one, layer in zip(found[1][0]["norms"], rank["norms"], strict=True):
            assert one.keys() == layer.keys()
            for name, value in one.items():
                torch.testing.assert_close(layer[name], value, rtol=1e-10, atol=1e-12, msg=name)
    for name, whole in found[1][0]["predictions"].items():
        for batch, parts in zip(whole, zip(*(rank["predictions"][name] for rank in found[2]), strict=True), strict=True):
            assert sum(map(len, parts)) == len(batch)
            if batch.dtype == torch.float64 and batch.shape[1:] != (2,):  # latents, and no samples of vectors
                torch.testing.assert_close(torch.cat(parts), batch, rtol=1e-9, atol=1e-12, msg=name)
            elif torch.cat(parts).unique(dim=0).shape[0] > 1:  # a GAN that is not trained gives the same gray
                assert not any(torch.equal(one, other) for one in parts[0] for other in parts[1]), name
    assert torch.equal(found[1][0]["noise"], found[2][0]["noise"]), "the first process draws what one would"
    assert not torch.isin(found[2][1]["noise"], found[2][0]["noise"]).any()
    for rank in (*found[1], *found[2], *found[4]):
        for examples, logged in rank["constants"].items():
            mean = (examples - 1) / 2
            held_out = {"loss": 0.0, "one": 1.0, "capacity": 25.0, "mean": mean}
            for stage, prefix in (("validate", "val"), ("test", "test")):
                assert logged[stage] == pytest.approx({f"{prefix}/{name}": value for name, value in held_out.items()})
            validation = {f"val/{name}": value for name, value in held_out.items()}
            assert logged["first"] == pytest.approx(validation)
            assert logged["best"] == {"score": mean}
            assert {name: logged["fit"][name] for name in validation} == pytest.approx(validation)
            assert (logged["fit"]["train/one"], logged["fit"]["train/capacity"]) == (1, 25)
            assert list(logged["states"]) == ["weight"]


@pytest.mark.slow
def test_gradients_are_those_of_one_process(tmp_path):
    """With 2 and 3 processes, equal shares, unequal ones, and one or two examples each.

    In single precision as a part of the largest gradient: rounding alone moves small sums of large terms by more than
    1e-5 of their own size, in one process too.
    """
    found = run(TASKS, "gradients", tmp_path, 1, 2, 3)
    assert len(found[2][0]) >= 60
    for count in (2, 3):
        for rank in found[count]:
            for key, (own, of_all, weight) in rank.items():
                assert (own < 1e-10) if key.endswith("64") else (of_all < 1e-5), (count, key, own, of_all, weight)


@pytest.mark.slow
def test_gradients_of_every_component_are_those_of_one_process(tmp_path):
    """Posteriors, priors, networks, losses, penalties, schedules, dequantizers and couplings."""
    found = run(TASKS, "variants", tmp_path, 1, 2, 3)
    for count in (2, 3):
        for rank in found[count]:
            for key, (own, of_all, weight) in rank.items():
                # The gradient of a bias before batch normalization is 0 but for rounding.
                assert own < 1e-10 or of_all < 1e-13, (count, key, weight)


@pytest.mark.slow
def test_gradients_of_compiled_models_are_those_of_one_process(tmp_path):
    found = run(TASKS, "compiled", tmp_path, 1, 2)
    for rank in found[2]:
        assert {name: weight for name, (own, _, weight) in rank.items() if own > 1e-10} == {}


@pytest.mark.slow
def test_trainings_are_those_of_one_process(tmp_path):
    """Three epochs with validations: every row of metrics, and the weights in the end.

    And the same with gradients that are accumulated and clipped, where Lightning does that.
    """
    found = run(TASKS, "training", tmp_path, 1, 2, 3)
    assert {"2/train/loss", "2/val/loss", "8/val/loss"} <= found[1][0]["vae"].keys()
    assert {*registry.MODELS, "vae, accumulated"} <= found[1][0].keys()
    for count in (2, 3):
        for number, rank in enumerate(found[count]):
            for name, one in found[1][0].items():
                # Loggers write in the first process.
                kept = {key: value for key, value in one.items() if number == 0 or key.startswith("weights/")}
                assert_same_metrics(kept, {key: rank[name][key] for key in kept}, 1e-8, 1e-11)


@pytest.mark.slow
def test_trainings_go_on_in_every_bit(tmp_path):
    """On two processes, each with a random stream of its own; in the middle of an epoch."""
    for rank in run(TASKS, "resumed", tmp_path, 2)[2]:
        assert len(rank) >= 10
        assert {name: differing for name, differing in rank.items() if differing} == {}


def assert_same_found(found: dict[int, list], relative: float, absolute: float) -> None:
    for rank in (rank for count, ranks in found.items() if count > 1 for rank in ranks):
        assert rank.keys() == found[1][0].keys()
        for name, metrics in rank.items():
            assert_same_metrics(found[1][0][name], metrics, relative, absolute)


@pytest.mark.slow
def test_evaluations_are_those_of_one_process(tmp_path):
    """With importance samples and scores of codes, of a split of 17 in batches of 6."""
    assert_same_found(run(TASKS, "evaluations", tmp_path, 1, 2, 3), 1e-6, 1e-5)


@pytest.mark.slow
def test_scores_of_the_callback_are_those_of_one_process(tmp_path):
    found = run(TASKS, "scores", tmp_path, 1, 2, 3)
    assert "val/mig" in found[1][0]["vae"]
    assert_same_found(found, 1e-6, 1e-12)


@pytest.mark.slow
def test_sample_scores_are_those_of_one_process(tmp_path):
    """Of evaluations and of the callback, of splits of 61, 41 and 35."""
    found = run(TASKS, "sample_scores", tmp_path, 1, 2, 3)
    expected = {"model/test/mmd_fuse_p_gray_cnn", "real/fd", "half of the modes/coverage", "val/authenticity_gray_cnn"}
    assert expected <= found[1][0]["vae"].keys()
    assert_same_found(found, 1e-6, 1e-5)


@pytest.mark.slow
def test_metrics_are_those_of_one_process(tmp_path):
    """Of validation and test, over splits that neither the batch nor the processes divide."""
    found = run(TASKS, "metrics", tmp_path, 1, 2, 3)
    for count in (2, 3):
        for rank in found[count]:
            for key, value in rank.items():
                # Differences of large sums, as total correlations are, are no better than single precision's last digit.
                assert_same_metrics(found[1][0][key], value, *((1e-9, 1e-12) if key[2].endswith("64") else (1e-6, 1e-5)))
