"""Every example once, in an order and with noise that depend on the seed alone, however the run is cut up."""

from itertools import islice

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from datamodules import DataModule
from datamodules.loader import Arrays, EvalLoader, Position, TrainLoader
from zoo.errors import ZooError
from zoo.spec import DataSpec


def noisy(x, generator):
    return torch.cat((x, torch.rand(x.shape, generator=generator, device=x.device)), 1)


def source(count, transform=None):
    number = torch.arange(count)
    return Arrays(number.float().unsqueeze(1), factors=number.byte().unsqueeze(1), label=number, transform=transform)


def numbers(loader):
    return torch.cat([batch.label for batch in loader])


@pytest.mark.parametrize("loader", [TrainLoader, EvalLoader])
@pytest.mark.parametrize("count", [4, 7, 24, 25, 31])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_processes_share_everything_exactly_once(loader, count, world_size):
    shards = [loader(source(count), 3, seed=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [list(shard) for shard in shards]
    assert len({len(part) for part in batches}) == 1  # a process with fewer batches would leave the others waiting
    assert [len(part) for part in batches] == [len(shard) for shard in shards]
    assert all(len(batch.x) > 0 for part in batches for batch in part)
    assert torch.cat([batch.label for part in batches for batch in part]).sort().values.tolist() == list(range(count))


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_are_full_but_the_last(world_size):
    batches = list(TrainLoader(source(26), 4, world_size=world_size))
    assert [len(batch.x) for batch in batches[:-1]] == [4] * (len(batches) - 1)


def test_a_batch_keeps_its_parts_together():
    for batch in TrainLoader(source(20), 6):
        assert batch.x.squeeze(1).tolist() == batch.factors.squeeze(1).tolist() == batch.label.tolist()
        assert (batch.factors.dtype, batch.label.dtype) == (torch.int64, torch.int64)


def test_the_order_depends_on_seed_and_epoch_alone():
    one, same, other = (TrainLoader(source(50), 8, seed=seed) for seed in (3, 3, 4))
    epochs = [[numbers(loader) for _ in range(3)] for loader in (one, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(*epochs[:2], strict=True))
    assert not torch.equal(epochs[0][0], epochs[2][0])
    assert len({tuple(epoch.tolist()) for epoch in epochs[0]}) == 3
    assert not torch.equal(epochs[0][0], torch.arange(50))


@pytest.mark.parametrize("stop", [0, 1, 5, 7, 12])
def test_a_stored_place_continues_with_the_very_next_batch(stop):
    def endless(loader):
        while True:
            yield from loader

    whole = list(islice(endless(TrainLoader(source(50, noisy), 8, seed=5)), 20))
    first = TrainLoader(source(50, noisy), 8, seed=5)
    head = list(islice(endless(first), stop))
    second = TrainLoader(source(50, noisy), 8, seed=5, start=first.position)
    tail = list(islice(endless(second), 20 - stop))
    for expected, batch in zip(whole, head + tail, strict=True):
        assert torch.equal(expected.x, batch.x)
        assert torch.equal(expected.label, batch.label)


@pytest.mark.parametrize(("size", "world_size"), [(1, 1), (3, 1), (8, 1), (50, 1), (1, 3), (4, 2), (5, 3), (60, 4)])
def test_any_place_in_an_epoch_is_one_to_begin_at(size, world_size):
    """With any batch size and number of processes the rest of the epoch is its rest, each example once."""
    order = TrainLoader(source(50), 8, seed=5).order(0).tolist()
    for at in range(51):
        shards = [TrainLoader(source(50), size, 5, rank, world_size, start=Position(0, at)) for rank in range(world_size)]
        behind = {shard.batches_behind for shard in shards}
        batches = [[batch.label.tolist() for batch in shard] for shard in shards]
        assert len({len(part) for part in batches}) == 1
        assert all(label for part in batches for label in part), "no process gets an empty batch"
        given = [label for step in zip(*batches, strict=True) for share in step for label in share]
        if at == 50:
            assert sorted(given) == list(range(50)), "the next epoch"
            continue
        assert behind == {len(shards[0]) - len(batches[0])}
        if 50 - at >= world_size:
            assert given == order[at:]
        else:  # fewer are left than there are processes: all get them
            assert batches == [[order[at:]]] * world_size
        assert {shard.position for shard in shards} == {Position(0, 50)}


def test_noise_is_never_drawn_twice():
    """Whatever the batch size and the number of processes, in training and in evaluation; it is keyed by places."""
    noise = []
    for size, world_size in ((4, 1), (4, 2), (3, 1)):
        place = Position(0, len(noise))
        for rank in range(world_size):
            loader = TrainLoader(source(24, noisy), size, 1, rank, world_size, start=place)
            noise += next(iter(loader)).x[:, 1].tolist()
    noise += torch.cat([batch.x[:, 1] for batch in EvalLoader(source(24, noisy), 4, seed=1)]).tolist()
    noise += torch.rand(24, generator=torch.Generator().manual_seed(1)).tolist()
    assert len(set(noise)) == len(noise)
    again = TrainLoader(source(24, noisy), 4, seed=1, start=Position(0, 4))
    assert next(iter(again)).x[:2, 1].tolist() == noise[4:6], "but for a batch of another size that begins at the same place"


def test_after_an_early_break_the_stream_goes_on():
    broken, whole = TrainLoader(source(40), 8, seed=2), TrainLoader(source(40), 8, seed=2)
    seen = [batch.label for batch in islice(broken, 2)] + [batch.label for batch in islice(broken, 3)]
    assert torch.equal(torch.cat(seen), numbers(whole))


def test_noise_is_fresh_in_training_and_fixed_in_evaluation():
    train, evaluation = TrainLoader(source(16, noisy), 8), EvalLoader(source(16, noisy), 8)
    first, second = (torch.cat([batch.x for batch in train]) for _ in range(2))
    noise = [dict(zip(x[:, 0].tolist(), x[:, 1].tolist(), strict=True)) for x in (first, second)]
    assert all(noise[0][number] != noise[1][number] for number in range(16))
    assert len(set(noise[0].values())) == 16
    passes = [torch.cat([batch.x for batch in evaluation]) for _ in range(2)]
    assert torch.equal(*passes)
    assert torch.equal(passes[0][:, 0], torch.arange(16.0))


def test_processes_draw_different_noise():
    parts = [next(iter(EvalLoader(source(8, noisy), 4, rank=rank, world_size=2))).x[:, 1] for rank in range(2)]
    assert not set(parts[0].tolist()) & set(parts[1].tolist())


def test_a_slice_of_arrays_is_a_view():
    whole = source(10)
    part = whole.subset(slice(4, 7))
    assert part.x.data_ptr() == whole.x[4:].data_ptr()
    assert numbers(EvalLoader(part, 2)).tolist() == [4, 5, 6]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}, {"batch_size": 2, "world_size": 4}])
def test_what_cannot_be_batched_is_said(options):
    with pytest.raises(ZooError, match=r"batch_size|processes"):
        TrainLoader(source(3), **options)


class Counting(DataModule):
    spec = DataSpec("counting", (2,))

    def load(self):
        return {split: source(20, noisy) for split in ("train", "val", "test")}


class Listening(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.heard = []

    def training_step(self, batch):
        self.heard.append(batch.x)
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, steps, checkpoint=None):
    model = Listening()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=steps, accelerator="cpu", default_root_dir=folder, **quiet)
    trainer.fit(model, datamodule=Counting(batch_size=4, seed=3), ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return model.heard


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [1, 2, 0.4])
def test_overfitting_gives_the_same_batches_in_every_epoch(tmp_path, limit):
    model = Listening()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, overfit_batches=limit, **quiet)
    trainer.fit(model, datamodule=Counting(batch_size=4, seed=3))
    length = 1 if limit == 1 else 2
    assert len(model.heard) == 3 * length
    whole = [batch.x for batch in TrainLoader(source(20, noisy), 4, seed=3)]
    assert all(torch.equal(x, whole[i % length]) for i, x in enumerate(model.heard)), "the first ones of the first epoch"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"reload_dataloaders_every_n_epochs": 1}, {"reload_dataloaders_every_n_epochs": 2}])
@pytest.mark.parametrize("limit", [None, 3, 0.4])
def test_epochs_are_those_of_the_trainer(tmp_path, options, limit):
    """Each has its own order and noise, from its beginning, where loaders are made anew and where epochs are cut short."""
    model = Listening()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {**options, **quiet, "limit_train_batches": limit}
    trainer = Trainer(max_epochs=4, accelerator="cpu", default_root_dir=tmp_path, **options)
    trainer.fit(model, datamodule=Counting(batch_size=4, seed=3))
    length = {None: 5, 3: 3, 0.4: 2}[limit]
    expected = [
        batch.x
        for epoch in range(4)
        for batch in islice(TrainLoader(source(20, noisy), 4, seed=3, start=Position(epoch)), length)
    ]
    assert len(model.heard) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(model.heard, expected, strict=True))
    assert len({x[:, 1].sum().item() for x in model.heard}) == len(expected)


def test_a_place_beyond_the_data_is_said():
    with pytest.raises(ZooError, match="example 21 of an epoch"):
        TrainLoader(source(20), 4, start=Position(0, 21))


@pytest.mark.filterwarnings("ignore")
def test_a_run_resumed_inside_an_epoch_sees_what_the_whole_run_sees(tmp_path):
    whole = fit(tmp_path, 13)
    cut = fit(tmp_path, 7) + fit(tmp_path, 13, tmp_path / "7.ckpt")
    assert len(cut) == 13
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_a_data_set_too_large_for_the_device_is_said(monkeypatch):
    def full(self, device):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Arrays, "to", full)
    with pytest.raises(ZooError, match=r"--data\.on_device false"):
        Counting().train_dataloader()


def test_a_negative_seed_is_said():
    with pytest.raises(ZooError, match="seed -1"):
        Counting(seed=-1)
