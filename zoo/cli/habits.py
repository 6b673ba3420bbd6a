"""Options as people know them from other tools, and options without the group that they are in."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from zoo import registry
from zoo.errors import ZooError

__all__ = ["SHORT", "as_typed_here", "nearest"]

# What other tools call our short arguments.
SHORT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("dataset", "data_set"), "data"),
        **dict.fromkeys(("arch", "architecture", "net"), "model"),
        **dict.fromkeys(("num_gpus", "n_gpus", "ngpus", "gpu"), "gpus"),
        **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
        **dict.fromkeys(("cfg", "config_file"), "config"),
        **dict.fromkeys(("ckpt", "checkpoint", "checkpoint_path", "resume_from", "resume_from_checkpoint"), "ckpt_path"),
        **dict.fromkeys(("run_name", "exp_name", "experiment", "experiment_name"), "name"),
        **dict.fromkeys(("save_every", "checkpoint_interval", "ckpt_every", "save_interval"), "checkpoint_every"),
    }
)

# What other tools call options of a model, of data, of the Trainer.
_LONG = {
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "nb_epochs", "max_epoch"), "trainer.max_epochs"),
    **dict.fromkeys(
        ("steps", "max_step", "num_steps", "n_steps", "iters", "max_iters", "iterations", "num_iterations", "batches"),
        "trainer.max_steps",
    ),
    **dict.fromkeys(("output_dir", "out", "out_dir", "log_dir", "logdir", "save_dir"), "trainer.default_root_dir"),
    **dict.fromkeys(("grad_clip", "clip", "clip_grad_norm", "max_grad_norm"), "trainer.gradient_clip_val"),
    **dict.fromkeys(("accumulate", "accumulation_steps", "gradient_accumulation_steps"), "trainer.accumulate_grad_batches"),
    **dict.fromkeys(("learning_rate", "base_lr"), "model.lr"),
    **dict.fromkeys(("optim", "optimizer_cls"), "model.optimizer"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), "model.schedule"),
    **dict.fromkeys(("z_dim", "latent_size", "latents", "nz"), "model.latent_dim"),
    **dict.fromkeys(("bs", "batch", "batchsize", "train_batch_size"), "data.batch_size"),
    **dict.fromkeys(("eval_batchsize", "val_batch_size", "test_batch_size"), "data.eval_batch_size"),
    **dict.fromkeys(("data_dir", "data_root", "dataroot", "data_path"), "data.root"),
}


def as_typed_here(option: str, known: Iterable[str]) -> str:
    """An option without its group, or as other tools call it, as the zoo does.

    Arguments:
        option: As it was typed: ``--lr``, ``--epochs``, ``--batch-size``.
        known: The options that there are, with their groups: ``--model.lr``.

    Raises:
        ZooError: where there is none, with the nearest one, or several.

    Example:
        >>> known = ["--model.lr", "--model.kl.beta", "--data.batch_size", "--trainer.max_epochs"]
        >>> [as_typed_here(option, known) for option in ("--lr", "--epochs", "--batch-size", "--beta")]
        ['--model.lr', '--trainer.max_epochs', '--data.batch_size', '--model.kl.beta']
    """
    known = list(known)
    name = option.lstrip("-").replace("-", "_")
    if (meant := f"--{_LONG.get(name, name)}") in known:
        return meant
    found = [each for each in known if each.rpartition(".")[2] == name and "." in each]
    shallow = [each for each in found if each.count(".") == 1] or found
    if len(shallow) == 1:
        return shallow[0]
    if shallow:
        raise ZooError(f"no option {option}, but {' and '.join(shallow)}: type the one that is meant.")
    raise ZooError(f"no option {option}.{nearest(option, known)}\n`--model NAME --help` lists the options.")


def nearest(option: str, known: Iterable[str]) -> str:
    """`` Did you mean X?`` for the option that is nearest in its whole name, or else in its last part; or nothing."""
    known = list(known)
    group, _, _ = option.lstrip("-").rpartition(".")
    own = [each for each in known if group and each.startswith(f"--{group}.")]
    if own and (hint := registry.suggestion(option, own)):
        return hint
    if close := difflib.get_close_matches(option, known, n=1, cutoff=0.75):
        return f" Did you mean {close[0]}?"
    return registry.suggestion(option.replace("-", "_").lstrip("_"), known)
