"""A zoo of deep generative models on PyTorch Lightning: any model, any data, one command, one table."""

from zoo import registry

__version__ = "0.1.0"


def __getattr__(name: str):
    """Import a model class, or ``load``, when it is first asked for, so that ``import zoo`` costs nothing."""
    if name == "load":
        from zoo.runs.checkpoints import load

        return load
    paths = {entry.path.rpartition(".")[2]: entry.path for entry in registry.MODELS.values()}
    if name in paths:
        return registry.find_class(paths[name])
    raise AttributeError(f"module 'zoo' has no attribute {name!r}." + registry.suggestion(name, [*paths, "load"]))
