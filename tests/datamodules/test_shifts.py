"""Correlated factors are drawn as their formula says, held-out combinations are never trained on, and names say so."""

import re

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

import zoo
from datamodules import DSprites, NoisyDSprites
from datamodules.loader import Arrays, Position, TrainLoader
from zoo.errors import ZooError

FEW = {"shape": [0, 2], "scale": [0, 1, 2, 5], "orientation": [0, 10, 20], "posX": list(range(0, 32, 4)), "posY": [3, 9, 16]}
CORRELATE = {"scale": "posX", "strength": 0.2}
HOLD_OUT = {"shape": [2], "orientation": [10, 20]}


def few(**options):
    return DSprites(8, factors=FEW, **options)


def expected(sizes, strength):
    u, v = (torch.linspace(0, 1, size, dtype=torch.float64) for size in sizes)
    p = torch.exp(-((u[:, None] - v) ** 2) / (2 * strength**2))
    return p / p.sum()


def test_weights_are_those_of_the_formula():
    """Scale has 4 kept values, numbered anew, posX 8."""
    data = few(correlate=CORRELATE)
    data.setup()
    train = data.splits["train"]
    p = expected((4, 8), 0.2)[train.factors[:, 1].long(), train.factors[:, 3].long()]
    assert torch.allclose(train.weights, p / p.max())
    assert data.splits["val"].weights is data.splits["test"].weights is few().weights_of(np.arange(3)) is None
    two = few(correlate={"scale": "posX", "shape": "posX", "strength": 0.2})
    q = expected((2, 8), 0.2)[train.factors[:, 0].long(), train.factors[:, 3].long()]
    assert torch.allclose(two.weights_of(np.sort(two.split_numbers()["train"])), p * q / (p * q).max())


def test_training_draws_the_correlated_pair_and_nothing_else():
    data = few(correlate=CORRELATE, batch_size=32)
    loader = data.train_dataloader()
    factors = torch.cat([batch.factors for _ in range(40) for batch in loader])
    assert len(factors) == 40 * len(data.splits["train"])
    train = data.splits["train"].factors.long()
    cells = torch.bincount(train[:, 1] * 8 + train[:, 3], minlength=32).view(4, 8)  # how many images there are
    p = expected((4, 8), 0.2) * cells
    n = len(factors)
    found = torch.bincount(factors[:, 1] * 8 + factors[:, 3], minlength=32).view(4, 8)
    error = (found - n * p / p.sum()) / (n * p / p.sum()).sqrt()
    assert error.abs().max() < 4.5
    correlation = torch.corrcoef(factors.double().T)
    assert correlation[1, 3] > 0.7 and correlation.fill_diagonal_(0)[[0, 2, 4]].abs().max() < 0.1


def test_evaluation_is_uncorrelated_and_scores_draw_from_the_whole():
    data, plain = few(correlate=CORRELATE), few()
    for name in ("val_dataloader", "test_dataloader"):
        ours, theirs = (torch.cat([batch.x for batch in getattr(each, name)()]) for each in (data, plain))
        assert torch.equal(ours, theirs)
    draws = [each.sample_factors(50, torch.Generator().manual_seed(0)) for each in (data, few(hold_out=HOLD_OUT), plain)]
    assert torch.equal(draws[0], draws[2]) and torch.equal(draws[1], draws[2])


def test_no_probability_is_no_draw():
    order = TrainLoader(Arrays(torch.arange(6.0), weights=torch.tensor([0.0, 2.0, 0.0, 1.0, 1.0, 0.0]).double()), 2).order(0)
    assert set(order.tolist()) <= {1, 3, 4} and len(order) == 6
    strong = few(correlate={"scale": "posX", "strength": 1e-9})
    batch = next(iter(strong.train_dataloader()))
    assert set(zip(*batch.factors[:, [1, 3]].T.tolist(), strict=True)) <= {(0, 0), (3, 7)}, "the pairs that agree"


@pytest.mark.parametrize(("size", "world_size"), [(1, 1), (3, 1), (50, 1), (4, 2), (5, 3)])
def test_any_place_of_weighted_draws_is_one_to_begin_at(size, world_size):
    source = Arrays(torch.arange(31.0), weights=torch.arange(31.0).double())
    whole = torch.cat([batch.x for batch in TrainLoader(source, 4, seed=3)])
    assert len(whole) == 31 and len(whole.unique()) < 31 and 0 not in whole
    for stop in (4, 20, 28):
        ranks = [TrainLoader(source, size, 3, rank, world_size, Position(0, stop)) for rank in range(world_size)]
        rest = [torch.cat(shares) for shares in zip(*([b.x for b in loader] for loader in ranks), strict=True)]
        assert torch.equal(torch.cat(rest), whole[stop:])
    assert not torch.equal(TrainLoader(source, 4, seed=3).order(0), TrainLoader(source, 4, seed=3).order(1))


class Listening(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight, self.heard = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch):
        self.heard.append(batch)
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cut", [5, 9])
def test_a_run_resumed_inside_an_epoch_sees_what_the_whole_run_sees(tmp_path, cut):
    def fit(steps, checkpoint=None):
        model = Listening()
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = Trainer(max_steps=steps, accelerator="cpu", default_root_dir=tmp_path, limit_val_batches=0, **quiet)
        data = NoisyDSprites(8, factors=FEW, correlate=CORRELATE, hold_out=HOLD_OUT, batch_size=50, seed=1)
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return model.heard

    whole = fit(14)  # epochs of 6 batches
    again = fit(cut) + fit(14, tmp_path / f"{cut}.ckpt")
    assert len(again) == 14
    assert all(torch.equal(a.x, b.x) and torch.equal(a.factors, b.factors) for a, b in zip(whole, again, strict=True))


def test_held_out_combinations_are_the_test_split():
    data, whole = few(hold_out=HOLD_OUT), few()
    data.setup()
    whole.setup()
    held = {split: (part.factors[:, 0] == 1) & (part.factors[:, 2] >= 1) for split, part in whole.splits.items()}
    for split in ("train", "val"):
        part = whole.splits[split].subset(~held[split])
        assert torch.equal(data.splits[split].x, part.x) and torch.equal(data.splits[split].factors, part.factors)
    test = data.splits["test"]
    assert len(test) == 4 * 2 * 8 * 3 == sum(map(torch.sum, held.values()))
    assert ((test.factors[:, 0] == 1) & (test.factors[:, 2] >= 1)).all()
    assert len(test.factors.unique(dim=0)) == len(test)
    assert torch.equal(next(iter(data.test_dataloader())).x, data.render(next(iter(data.test_dataloader())).factors))


def test_a_part_of_what_is_held_out():
    data, part = few(hold_out=HOLD_OUT).split_numbers(), few(hold_out=HOLD_OUT, size=50).split_numbers(50)
    assert sum(map(len, part.values())) == 50
    for split, numbers in part.items():
        assert np.array_equal(numbers, data[split][: len(numbers)])
    total = sum(map(len, data.values()))
    with pytest.raises(ZooError, match=f"size {total + 1}: with what is held out there are {total} images"):
        few(hold_out=HOLD_OUT, size=total + 1).setup()


def test_names_say_what_the_data_are():
    name = few(correlate=CORRELATE, hold_out=HOLD_OUT, size=100).spec.name
    assert name.startswith("dsprites[100,8px,scale~posX:0.2,hold_out(shape=2,orientation=10+20),shape=0+2,")
    assert DSprites(hold_out={"orientation": list(range(10))}).spec.name == "dsprites[hold_out(orientation=0-9)]"
    pairs = {"scale": "posX", "shape": "posY", "strength": 1}
    assert DSprites(correlate=pairs).spec.name == "dsprites[scale~posX:1,shape~posY:1]"
    assert NoisyDSprites(correlate=CORRELATE).spec.name == "noisy_dsprites[scale~posX:0.2]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"correlate": {"scale": "color", "strength": 0.2}},
            "correlate: no factor 'color' that varies in dsprites: there are",
        ),
        ({"correlate": {"size": "posX", "strength": 0.2}}, "no factor 'size'"),
        ({"correlate": {"scale": ["posX"], "strength": 0.2}}, r"no factor \['posX'\]"),
        ({"correlate": {"scale": "scale", "strength": 0.2}}, "two factors are needed"),
        ({"correlate": {"strength": 0.2}}, "two factors are needed, as in {scale: posX, strength: 0.2}"),
        ({"correlate": {}}, "two factors are needed"),
        ({"correlate": {"scale": "posX"}}, "strength None: a number above 0"),
        *(({"correlate": {"scale": "posX", "strength": bad}}, "a number above 0") for bad in (0, -1.0, "much", True)),
        ({"correlate": {"scale": "posX", "strength": float("inf")}}, "strength inf"),
        ({"correlate": {"scale": "posX", "strength": float("nan")}}, "strength nan"),
        ({"correlate": CORRELATE, "factors": {"scale": [3]}}, "no factor 'scale' that varies in dsprites"),
        ({"hold_out": {"color": [0]}}, "hold_out: no factor 'color' in dsprites: it has shape"),
        ({"hold_out": {"shape": [3]}}, r"hold_out: shape: \[3\]: one or more of 0-2"),
        ({"hold_out": {"shape": [-1]}}, r"shape: \[-1\]"),
        ({"hold_out": {"shape": []}}, r"shape: \[\]: one or more"),
        ({"hold_out": {"shape": [1, 1]}}, "once each"),
        ({"hold_out": {"shape": [1]}, "factors": {"shape": [0, 2]}}, r"shape: \[1\]: one or more of 0\+2"),
        ({"hold_out": {"shape": [0, 1, 2]}}, "holds everything out"),
        ({"hold_out": {}}, "holds everything out"),
        ({"hold_out": {"shape": [2]}, "factors": {"shape": [2]}}, "holds everything out"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ZooError, match=message) as caught:
        DSprites(**options)
    assert str(caught.value).count("\n") < 2


def test_the_command_line_takes_both_and_evaluates_on_the_whole_too(cli):
    options = [
        "--data.resolution",
        8,
        "--data.factors",
        "{shape: [0, 2], scale: [0, 5], orientation: [0, 10], posX: [0, 9]}",
    ]
    options += ["--data.correlate", "{scale: posX, strength: 0.2}", "--data.hold_out", "{shape: [2], orientation: [10]}"]
    model = ["--model.network", "mlp", "--model.hidden", 8, "--model.latent_dim", 2, "--trainer.max_steps", 2]
    status, out, err = cli("fit", "--model", "vae", "--data", "dsprites", *options, *model)
    assert status == 0, err
    folder = out.splitlines()[-1].removeprefix("run: ")
    assert re.search(r"scale_posX_0_2_hold_out_shape_2_o", folder)
    checkpoint = f"{folder}/checkpoints/last.ckpt"
    assert zoo.load(checkpoint).spec.name.startswith("dsprites[8px,scale~posX:0.2,hold_out(shape=2,orientation=10),")
    few_scores = ("--scores", "none")
    status, out, err = cli("evaluate", "--ckpt", checkpoint, *few_scores)
    assert status == 0, err
    assert "dsprites[8px,scale~posX:0.2,hold_out(shape=2,orientation=10),shape=" in out and "test split, 128 examples" in out
    status, out, err = cli("evaluate", "--ckpt", checkpoint, *few_scores, "--data.hold_out", "null")
    assert status == 0, err
    assert "dsprites[8px,scale~posX:0.2,shape=" in out and re.search(r"test split, \d\d examples", out)
    status, _, err = cli("fit", "--model", "vae", "--data", "dsprites", "--data.correlate", "{scale: posX, strength: 0}")
    assert status == 2 and "strength 0: a number above 0" in err and len(err.strip().splitlines()) <= 2
