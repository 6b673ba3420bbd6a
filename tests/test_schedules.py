"""Free bits as the literature defines them, and no cut where nobody asked for one."""

import pytest
import torch

from zoo.models import VAE
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

VECTORS = DataSpec("vectors", (3,))
SMALL = {"network": "mlp", "hidden": 16, "latent_dim": 4}


def made(**options) -> tuple[VAE, Batch]:
    torch.manual_seed(0)
    return VAE(VECTORS, **SMALL, **options), Batch(torch.randn(64, 3))


def kl_of(model: VAE, batch: Batch) -> torch.Tensor:
    """KL of each latent of each example, from the formula."""
    mean, stddev = model.q(batch.x).gaussian
    return (mean.square() + stddev.square() - 1) / 2 - stddev.log()


def test_without_free_bits_kl_is_never_cut_off():
    """An estimate from one draw can be negative; the loss is -ELBO all the same, and has a gradient."""
    kl = torch.tensor([-3.0, 1.0], requires_grad=True)
    loss = KLSchedule(beta=2)(kl, None)
    loss.backward()
    assert loss == -2
    assert kl.grad.tolist() == [1, 1]
    model, batch = made(posterior="iaf", prior="maf", posterior_options={"hidden": 8}, prior_options={"hidden": 8})
    for number in range(50):
        torch.manual_seed(number)
        loss, terms = model.objective(Batch(batch.x[:2]))
        assert loss.item() == pytest.approx(-terms["elbo"].item(), rel=1e-5)
        if terms["kl"] < 0:
            return
    pytest.fail("the case must have a negative estimate")


def test_free_bits_of_each_latent():
    """sum_j max(free bits, mean KL_j): latents below have no gradient, those above the whole one."""
    plain, batch = made()
    means = kl_of(plain, batch).mean(0)
    between = means.sort().values[1:3].mean().item()
    model, _ = made(kl=KLSchedule(free_bits=between))
    torch.manual_seed(1)
    loss, terms = model.objective(batch)
    expected = terms["reconstruction"] + means.clamp_min(between).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["kl"].item() == pytest.approx(means.sum().item(), rel=1e-5), "what is logged is KL itself"
    kl = kl_of(model, batch).detach().requires_grad_()
    model.kl(kl, None).backward()
    assert (kl.grad.sum(0) > 0.99).tolist() == (means > between).tolist()
    assert (kl.grad.sum(0) == 0).tolist() == (means < between).tolist()


@pytest.mark.parametrize("options", [{"posterior": "full"}, {"posterior": "planar"}, {"prior": "mixture"}])
def test_where_kl_is_no_sum_over_latents_the_whole_is_one_group(options):
    model, batch = made(kl=KLSchedule(free_bits=100.0), **options)
    loss, terms = model.objective(batch)
    assert loss.item() == pytest.approx(terms["reconstruction"].item() + 100, rel=1e-6)
    model.kl = KLSchedule(free_bits=1e-3)
    loss, terms = model.objective(batch)
    assert loss.item() == pytest.approx(-terms["elbo"].item(), rel=1e-5)
