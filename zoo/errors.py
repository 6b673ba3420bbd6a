"""The one exception for what a person gave that can't be used: shown in a line or two, without a traceback."""

__all__ = ["ZooError"]


class ZooError(ValueError):
    """What was given, what is accepted, and what to do, in one or two lines."""
