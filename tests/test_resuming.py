"""A training that goes on from a checkpoint is the one that was not interrupted, whatever moment it was written at."""

import copy
import itertools

import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers.logger import Logger
from torch import nn
from torch.utils.data import DataLoader

from callbacks import FinalValidation
from datamodules import DataModule
from datamodules.loader import Arrays
from zoo.errors import ZooError
from zoo.models.base import GenerativeModule
from zoo.spec import Batch, DataSpec

EXAMPLES, BATCH = 22, 4  # five batches of four and one of two
EPOCH = 6


class Few(DataModule):
    """Noisy numbers; ``label`` says which."""

    spec = DataSpec("few", (2,))

    def load(self):
        def noisy(x, generator):
            return x + torch.rand(x.shape, generator=generator)

        number = torch.arange(EXAMPLES)
        x = torch.stack((number, number.flip(0)), 1) / EXAMPLES
        return {split: Arrays(x, label=number, transform=noisy) for split in ("train", "val", "test")}


class Drops(GenerativeModule):
    """Linear, with dropout, so that weights depend on the random state; ``schedules`` of every kind."""

    monitor = "val/loss"

    def __init__(self, spec, schedule: str = "none", manual: bool = False):
        super().__init__(spec)
        self.layer, self.schedule = nn.Linear(2, 2), schedule
        self.automatic_optimization = not manual

    def objective(self, batch):
        noise = torch.rand(batch.x.shape)  # in validation too
        loss = (nn.functional.dropout(self.layer(batch.x)) - noise).square().mean()
        return loss, {"noise": noise.mean()}

    def sample(self, n):
        return torch.zeros(n, 2)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def configure_optimizers(self):
        adam = torch.optim.Adam(self.parameters(), 0.1)
        schedules = {
            "step": {"scheduler": torch.optim.lr_scheduler.ExponentialLR(adam, 0.9), "interval": "step", "frequency": 2},
            "epoch": {"scheduler": torch.optim.lr_scheduler.ExponentialLR(adam, 0.9), "interval": "epoch"},
            "plateau": {
                "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(adam, patience=0, factor=0.5),
                "monitor": "val/loss",
                "strict": False,
            },
        }
        return {"optimizer": adam, **({"lr_scheduler": schedules[self.schedule]} if self.schedule != "none" else {})}


class Rows(Logger):
    """The rows of metrics by their steps, as a file has them."""

    name = version = "rows"

    def __init__(self):
        super().__init__()
        self.rows = {}

    def log_metrics(self, metrics, step=None):
        self.rows.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, *args, **kwargs):
        pass


HOOKS = (
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
    "on_train_epoch_end",
)


class Story(Callback):
    """What happened, and, where ``folder`` is given, a checkpoint at every hook."""

    def __init__(self, folder=None):
        self.folder, self.events, self.saved = folder, [], {}

    def note(self, trainer, hook, batch=None):
        if trainer.sanity_checking:
            return
        seen = () if batch is None else (tuple(batch.label.tolist()), batch.x.sum().item())
        self.events.append((hook, trainer.current_epoch, trainer.global_step, seen))
        if self.folder is not None:
            path = self.folder / f"{len(self.events)}-{hook}.ckpt"
            self.saved[path] = len(self.events), copy.deepcopy(trainer.logger.rows)
            trainer.save_checkpoint(path)


def _noting(hook):
    def method(self, trainer, pl_module, *args):
        self.note(trainer, hook, next((each for each in args if isinstance(each, Batch)), None))

    return method


for _hook in HOOKS:
    setattr(Story, _hook, _noting(_hook))


def run(folder, *callbacks, resume=None, data=None, model=None, **options):
    """Train; what happened, the rows, the Trainer."""
    seed_everything(0 if resume is None else 5, verbose=False)
    story, rows = Story(folder if resume is None else None), Rows()
    trainer = Trainer(
        accelerator="cpu",
        logger=rows,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FinalValidation(), *callbacks, story],
        default_root_dir=folder,
        **{"log_every_n_steps": 1, "num_sanity_val_steps": 2, **options},
    )
    data = data or Few(BATCH, seed=3)
    trainer.fit(model or Drops(data.spec), data, ckpt_path=resume, weights_only=resume is not None)
    return story, rows.rows, trainer


def state(trainer, folder):
    path = folder / "state.ckpt"
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def begins(path, events, index):
    """Where in the events of the whole run a run goes on that resumes from the checkpoint written at one of them."""
    hook = path.stem.partition("-")[2]
    if hook == "on_train_batch_start":  # the step is done again
        return index - 1
    if hook in ("on_validation_start", "on_validation_batch_end", "on_validation_epoch_end"):  # the validation is done again
        return max(i for i in range(index) if events[i][0] == "on_validation_start")
    return index - 1 if hook == "on_train_epoch_start" else index


LIMITS = {
    "steps": {"max_steps": 15},
    "steps that end an epoch": {"max_steps": 12},
    "epochs": {"max_epochs": 3},
}
VALIDATIONS = {
    "every epoch": {},
    "no epoch": {"check_val_every_n_epoch": 5},
    "second epochs": {"check_val_every_n_epoch": 2},
    "twice an epoch": {"val_check_interval": 0.5},
    "batches": {"check_val_every_n_epoch": None, "val_check_interval": 4},
    "none": {"limit_val_batches": 0},
}
OTHERS = {
    "few rows": ({"log_every_n_steps": 4}, {}),
    "accumulated": ({"accumulate_grad_batches": 4, "max_epochs": 3}, {}),
    "limited": ({"limit_train_batches": 4, "max_epochs": 3}, {}),
    "reloaded": ({"reload_dataloaders_every_n_epochs": 1, "max_epochs": 3}, {}),
    "overfitted": ({"overfit_batches": 2, "max_epochs": 4}, {}),
    "manual": ({"max_steps": 15}, {"manual": True}),
    **{schedule: ({"max_steps": 15, "val_check_interval": 0.5}, {"schedule": schedule}) for schedule in ("step", "epoch")},
    "plateau": ({"max_epochs": 3}, {"schedule": "plateau"}),
    "plateau, between epochs": ({"max_epochs": 3, "val_check_interval": 0.5}, {"schedule": "plateau"}),
}
CASES = {
    **{f"{a}, {b}": ({**LIMITS[a], **VALIDATIONS[b]}, {}) for a, b in itertools.product(LIMITS, VALIDATIONS)},
    **{name: ({**LIMITS["steps"], **options} if "max_epochs" not in options else options, more)
       for name, (options, more) in OTHERS.items()},
}  # fmt: skip


PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "Few", "zoo_random_states", "zoo_training_batches",
         "global_step", "epoch")  # fmt: skip


def check_every_hook(folder, options, kind, chosen=slice(None)):
    """The same batches with the same noise, validations at the same places, rows, weights, counters: bit for bit."""
    story, rows, trainer = run(folder, model=Drops(Few.spec, **kind), **options)
    whole = state(trainer, folder)
    for path, (index, kept) in list(story.saved.items())[chosen]:
        again, more, resumed = run(folder, resume=path, model=Drops(Few.spec, **kind), **options)
        assert again.events == story.events[begins(path, story.events, index) :], path.name
        found = state(resumed, folder)
        for part in PARTS:
            assert same(found[part], whole[part]), f"{path.name}: {part}"
        assert found["loops"]["fit_loop"] == whole["loops"]["fit_loop"], path.name
        for at, row in more.items():
            kept.setdefault(at, {}).update(row)
        assert kept == rows, path.name


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASES)
def test_from_some_hooks(tmp_path, number):
    options, kind = list(CASES.values())[number]
    check_every_hook(tmp_path, options, kind, slice(number % 9, None, 9))


@pytest.mark.slow
@pytest.mark.parametrize(("options", "kind"), CASES.values(), ids=CASES)
def test_from_every_hook(tmp_path, options, kind):
    check_every_hook(tmp_path, options, kind)


def trained(story):
    """The batches that were trained on: their epochs, numbers and noise."""
    return [event for event in story.events if event[0] == "on_train_batch_start"]


@pytest.mark.parametrize("at", [0, 4, 6, 11])
def test_from_the_midst_of_a_step(tmp_path, at):
    """A checkpoint that a failure leaves behind has the batch that failed before it, and it is done again."""

    class Fails(Drops):
        def training_step(self, batch, batch_idx):
            if self.global_step == at:
                self.trainer.save_checkpoint(tmp_path / "midst.ckpt")
            return super().training_step(batch, batch_idx)

    story, rows, trainer = run(tmp_path, model=Fails(Few.spec), max_steps=15)
    again, more, resumed = run(tmp_path, resume=tmp_path / "midst.ckpt", model=Drops(Few.spec), max_steps=15)
    begin = next(i for i, event in enumerate(story.events) if event[::2][:2] == ("on_train_batch_start", at))
    assert again.events == story.events[begin:]
    found, whole = state(resumed, tmp_path), state(trainer, tmp_path)
    assert all(same(found[part], whole[part]) for part in PARTS)
    assert more == {step: row for step, row in rows.items() if step > at}


class Rates(Callback):
    """The learning rates of the batches."""

    def __init__(self):
        self.rates, self.betas = [], None

    def on_train_batch_start(self, trainer, pl_module, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.betas = trainer.optimizers[0].param_groups[0].get("betas")


class Rated(Drops):
    """With a learning rate and a schedule that are options."""

    def __init__(self, spec, rate: float = 0.1, beta: float = 0.9, schedule: str = "none", warmup: int = 0):
        super().__init__(spec)
        self.rate, self.beta, self.kind, self.warmup = rate, beta, schedule, warmup

    def configure_optimizers(self):
        adam = torch.optim.Adam(self.parameters(), self.rate, (self.beta, 0.999))
        schedules = {
            "exponential": lambda: torch.optim.lr_scheduler.ExponentialLR(adam, 0.5),
            "warm-up": lambda: torch.optim.lr_scheduler.LambdaLR(adam, lambda n: min(1, (n + 1) / max(1, self.warmup))),
        }
        if self.kind == "none":
            return adam
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedules[self.kind](), "interval": "step"}}


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({}, {}, 6 * [0.1]),
        ({}, {"rate": 0.02}, 3 * [0.1] + 3 * [0.02]),
        ({}, {"beta": 0.5}, 6 * [0.1]),
        ({"schedule": "exponential"}, {}, [0.1 * 0.5**i for i in range(6)]),
        ({"schedule": "exponential"}, {"rate": 0.2}, [(0.1 if i < 3 else 0.2) * 0.5**i for i in range(6)]),
        ({"schedule": "warm-up", "warmup": 4}, {"rate": 0.2}, [0.025, 0.05, 0.075, 0.2, 0.2, 0.2]),
        ({"schedule": "warm-up", "warmup": 4}, {"warmup": 10}, [0.025, 0.05, 0.075, 0.1, 0.05, 0.06]),
    ],
)
def test_options_of_the_optimizer_count_where_a_training_goes_on(tmp_path, first, then, expected):
    rates = Rates()
    _, _, trainer = run(tmp_path, rates, model=Rated(Few.spec, **first), max_steps=3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    run(tmp_path, rates, resume=tmp_path / "half.ckpt", model=Rated(Few.spec, **{**first, **then}), max_steps=6)
    assert rates.rates == pytest.approx(expected)
    assert rates.betas == (then.get("beta", 0.9), 0.999)


def test_a_learning_rate_that_was_changed_by_hand_stays(tmp_path):
    class Halves(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            trainer.optimizers[0].param_groups[0]["lr"] /= 2

    rates = Rates()
    _, _, trainer = run(tmp_path, Halves(), rates, model=Rated(Few.spec), max_steps=3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    run(tmp_path, Halves(), rates, resume=tmp_path / "half.ckpt", model=Rated(Few.spec), max_steps=6)
    assert rates.rates == pytest.approx([0.1 / 2**i for i in range(6)])


def saved_at(story, hook, step):
    return next(path for path, (index, _) in story.saved.items() if story.events[index - 1][::2][:2] == (hook, step))


@pytest.mark.parametrize("validations", VALIDATIONS)
@pytest.mark.parametrize("stop", [6, 9])
def test_a_training_that_ended_goes_on_to_a_later_end(tmp_path, stop, validations):
    """From the last moment of its last epoch, and from a checkpoint written after it, by steps and by epochs."""
    options = VALIDATIONS[validations]
    ends = [{"max_steps": stop}, *([{"max_epochs": stop // EPOCH}] if stop % EPOCH == 0 else [])]
    later = {"max_steps": 15}, {"max_epochs": 3}
    wholes = []
    for end in later:
        story, rows, trainer = run(tmp_path, **end, **options)
        wholes.append((trained(story), rows, state(trainer, tmp_path)))
    for end in ends:
        part, before, trainer = run(tmp_path, **end, **options)
        trainer.save_checkpoint(tmp_path / "after.ckpt")
        for path in (list(part.saved)[-1], tmp_path / "after.ckpt"):
            for (batches, rows, whole), further in zip(wholes, later, strict=True):
                again, more, resumed = run(tmp_path, resume=path, **further, **options)
                assert trained(part) + trained(again) == batches
                found = state(resumed, tmp_path)
                for name in ("state_dict", "optimizer_states", "Few", "zoo_random_states", "global_step", "epoch"):
                    assert same(found[name], whole[name]), (path.name, name)
                merged = {**before, **more}
                for at, row in merged.items():  # what the first part ended with was validated in any case
                    asked = {name for name in row if name in rows[at] or at != stop}
                    assert {name: row[name] for name in asked} == rows[at]


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
@pytest.mark.parametrize("size", [1, 3, 7, 30])
def test_another_batch_size_gives_every_example_once(tmp_path, hook, size):
    """The rest of the epoch, then whole epochs of the new size; counters say the new number of batches."""
    story, _, _ = run(tmp_path, max_epochs=2, val_check_interval=0.5)
    length = -(-EXAMPLES // size)
    for path, (index, _) in [each for each in story.saved.items() if each[0].stem.endswith(hook)][:: 5 if size == 1 else 2]:
        seen = {0: [], 1: [], 2: []}
        for _, epoch, _, (labels, _) in trained(story)[: sum(e[0] == "on_train_batch_start" for e in story.events[:index])]:
            seen[epoch] += labels
        if hook == "on_train_batch_start":  # this one is given again
            seen[story.events[index - 1][1]] = seen[story.events[index - 1][1]][: -len(story.events[index - 1][3][0])]
        again, _, resumed = run(tmp_path, resume=path, data=Few(size, seed=3), max_epochs=3, val_check_interval=0.5)
        for _, epoch, _, (labels, _) in trained(again):
            seen[epoch] += labels
        assert all(sorted(labels) == list(range(EXAMPLES)) for labels in seen.values()), path.name
        assert resumed.current_epoch == 3
        assert sum(event[1] == 2 for event in trained(again)) == length


def test_data_of_another_size_are_refused_inside_an_epoch(tmp_path):
    class Fewer(Few):
        def load(self):
            return {name: split.subset(slice(0, 12)) for name, split in super().load().items()}

    Fewer.__qualname__ = "Few"
    story, _, trainer = run(tmp_path, max_steps=8)
    trainer.save_checkpoint(tmp_path / "inside.ckpt")
    with pytest.raises(ZooError, match=r"8 examples into an epoch of 22, and the data have 12"):
        run(tmp_path, resume=tmp_path / "inside.ckpt", data=Fewer(BATCH, seed=3), max_steps=10)
    at_end = next(path for path in story.saved if path.stem.endswith("on_train_epoch_end"))
    again, _, _ = run(tmp_path, resume=at_end, data=Fewer(BATCH, seed=3), max_steps=9)
    assert sorted(label for event in trained(again) for label in event[3][0]) == list(range(12))


class Plain(Few):
    """A data module whose training loader is PyTorch's, in the order of its sampler."""

    def train_dataloader(self):
        self.setup()
        numbers = self.splits["train"].label
        return DataLoader(
            numbers, BATCH, sampler=list(reversed(range(EXAMPLES))), collate_fn=lambda part: self.batch(torch.stack(part))
        )

    @staticmethod
    def batch(numbers):
        return Batch(numbers.float().unsqueeze(1).repeat(1, 2), label=numbers)


def test_a_loader_of_ones_own_has_its_own_order(tmp_path):
    """Lightning's loaders keep no place: the counters go on, with a warning; at an epoch's end nothing is amiss."""
    story, _, whole = run(tmp_path, data=Plain(BATCH), max_epochs=3)
    assert [label for event in trained(story) for label in event[3][0]] == 3 * list(reversed(range(EXAMPLES)))
    for path, (index, _) in story.saved.items():
        if path.stem.endswith("on_train_epoch_end"):
            again, _, resumed = run(tmp_path, resume=path, data=Plain(BATCH), max_epochs=3)
            assert again.events == story.events[index:]
            assert same(state(resumed, tmp_path)["state_dict"], state(whole, tmp_path)["state_dict"])
    inside = saved_at(story, "on_train_batch_end", 8)
    with pytest.warns(UserWarning, match="the loader keeps no place"):
        again, _, resumed = run(tmp_path, resume=inside, data=Plain(BATCH), max_epochs=3)
    assert (resumed.global_step, resumed.current_epoch) == (18, 3)
    assert [event[1] for event in trained(again)] == 4 * [1] + 6 * [2]


class Keeps:
    """A loader of one's own with a place, as Lightning asks for it."""

    def __init__(self):
        self.at = 0

    def __len__(self):
        return EPOCH

    def __iter__(self):
        for _ in range(EPOCH - self.at % EPOCH):
            self.at += 1
            yield Plain.batch(torch.tensor([self.at, self.at]))

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Kept(Few):
    def train_dataloader(self):
        return Keeps()


def test_a_loader_with_a_place_of_its_own_goes_on(tmp_path):
    story, _, whole = run(tmp_path, data=Kept(BATCH), max_epochs=3)
    for path, (index, _) in list(story.saved.items())[::3]:
        if path.stem.endswith(("batch_end", "epoch_end", "validation_end")):
            again, _, resumed = run(tmp_path, resume=path, data=Kept(BATCH), max_epochs=3)
            assert again.events == story.events[begins(path, story.events, index) :]
            assert same(state(resumed, tmp_path)["state_dict"], state(whole, tmp_path)["state_dict"])


def test_progress_that_cannot_be_understood(tmp_path):
    story, _, _ = run(tmp_path, max_steps=2)
    path = list(story.saved)[-1]
    checkpoint = torch.load(path, weights_only=True)
    for wrong in (3, {}, {**checkpoint["zoo_progress"], "epoch": "one"}):
        torch.save({**checkpoint, "zoo_progress": wrong}, tmp_path / "wrong.ckpt")
        with pytest.raises(ZooError, match="where training was can't be understood"):
            run(tmp_path, resume=tmp_path / "wrong.ckpt", max_steps=3)
    for wrong in ({"epoch": 0}, {"seed": -1}, {"seed": 3, "epoch": 0, "examples": 4, "of": 2}, {"seed": 3, "epoch": "one"}):
        torch.save({**checkpoint, "Few": wrong}, tmp_path / "wrong.ckpt")
        with pytest.raises(ZooError, match="place in the data can't be understood"):
            run(tmp_path, resume=tmp_path / "wrong.ckpt", max_steps=3)


def test_a_trainer_that_goes_on_by_itself(tmp_path):
    """The same Trainer, fitted again with a later end, begins a new epoch with an order of its own."""
    data, model = Few(BATCH, seed=3), Drops(Few.spec)
    story, _, trainer = run(tmp_path, data=data, model=model, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, data)
    whole, _, _ = run(tmp_path, max_epochs=2)
    assert trained(story) == trained(whole)


def test_another_trainer_begins_anew(tmp_path):
    """Data that were trained on start from the beginning with another Trainer, as a comparison of models expects."""
    data = Few(BATCH, seed=3)
    first, second = (run(tmp_path / str(i), data=data, max_steps=8)[0] for i in range(2))
    assert trained(first) == trained(second)


def test_what_is_looked_at_is_not_taken_from_training(tmp_path):
    """Batches that a callback or a model draws from the data in between leave the place as it is."""

    class Looks(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            next(iter(trainer.datamodule.train_dataloader()))

    plain, _, _ = run(tmp_path, max_steps=8)
    story, _, _ = run(tmp_path, Looks(), max_steps=8)
    assert trained(story) == trained(plain)
    path = saved_at(story, "on_train_batch_end", 3)
    again, _, _ = run(tmp_path, Looks(), resume=path, max_steps=8)
    assert again.events == story.events[story.saved[path][0] :]
