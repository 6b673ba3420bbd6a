"""Steps on meta tensors: what they would need of memory, and whether the published sizes fit."""

import pytest
import torch
import yaml
from conftest import REPOSITORY

from benchmarks.gpu.cases import paper_cases
from benchmarks.gpu.dry_run import LiveBytes, peak_bytes
from benchmarks.gpu.memory import step_bytes
from zoo import registry
from zoo.nets.mlp import mlp
from zoo.spec import Batch


def test_live_bytes():
    with LiveBytes() as live:
        a = torch.zeros(1000, device="meta")
        b = a.view(10, 100) + 1
        a.add_(1)
        assert live.now == 8000
        del b
        c = torch.zeros(250, device="meta")
    assert (live.now, live.peak) == (5000, 8000)
    del a, c
    assert live.now == 0


def test_meta_tensors_need_what_real_ones_do():
    peaks = []
    for device in ("meta", "cpu"):
        net = mlp((64, 256, 256, 1)).to(device)
        x = torch.ones(128, 64, device=device)
        peaks.append(peak_bytes(net, lambda net=net, x=x: net(x).square().mean(), bf16=False))
    assert peaks[0] == peaks[1]
    weights = sum(parameter.numel() for parameter in net.parameters())
    activations = 128 * (2 * 256 + 1)
    assert peaks[0] > 4 * (3 * weights + activations)


@pytest.mark.parametrize("case", paper_cases(tiny=False), ids=lambda case: case.name)
def test_a_step_at_the_sizes_of_the_paper(case):
    """Shapes fit, and nothing asks for a number of the device or leaves a tensor on the CPU."""
    model = registry.find_class(registry.MODELS[case.model].path)(case.spec, **case.options).to("meta")
    model.train(not hasattr(model, "initialize"))  # what starts from data can't, of meta tensors
    x = torch.empty(2, *case.spec.shape, dtype=torch.uint8, device="meta")
    loss, _ = model.objective(Batch(x))
    loss.backward()
    assert loss.shape == ()


def test_the_published_flow_fits():
    """docs/gpu.md has the memory of the recipe's batch in bf16 with activations computed again."""
    recipe = yaml.safe_load((REPOSITORY / "configs" / "recipes" / "flowpp-cifar10.yaml").read_text())
    case = next(case for case in paper_cases(tiny=False) if case.label == "checkpoint")
    options = recipe["model"]["init_args"]
    assert {name: options[name] for name in ("filters", "blocks", "components")}.items() <= case.options.items()
    assert recipe["data"]["init_args"]["batch_size"] == case.batch == 64
    few, more = (step_bytes(case, batch, bf16=True, checkpoint=True) for batch in (2, 4))
    each = (more - few) / 2
    fixed = few - 2 * each
    page = (REPOSITORY / "docs" / "gpu.md").read_text()
    assert f"| {(fixed + 64 * each) / 2**30:.1f} GiB | {each / 2**20:.0f} MiB |" in page
