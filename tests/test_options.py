"""Options of constructors: found with their types and meaning, and checked against simple types."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from zoo.errors import ZooError
from zoo.options import Option, check_types, options_of, require_at_least


class Asked(Protocol):
    def ask(self) -> None: ...


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [3, np.int64(3)], [3.0, True, "3", None]),
        (float, [3, 0.5, np.float32(0.5)], [True, "3", None, 1j]),
        (bool, [True], [1, "true"]),
        (str, ["x"], [1, None]),
        (int | None, [3, None], [0.5, "x"]),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0]),
        (tuple[int, float], [(1, 2.0), [1, 2]], [(1,), (1.0, 2.0), "ab"]),
        (tuple[int, ...], [(), [1, 2, 3]], [(1, "x"), 3]),
        (list[str], [["a"]], [("a",), [1], "a"]),
        (dict[str, Any], [{"a": 1}], [[1]]),
        (Callable[[int], int], [abs], [3]),
        (Any, [3, None], []),
        (Asked, [3], []),
    ],
    ids=str,
)
def test_types(annotation, right, wrong):
    option = {"width": Option("width", annotation)}
    for value in right:
        check_types({"width": value}, option, "Network")
    for value in wrong:
        with pytest.raises(ZooError, match=r"width=.* of Network: .* is accepted"):
            check_types({"width": value}, option, "Network")


def test_a_choice_is_suggested():
    with pytest.raises(ZooError, match=r"one of softplus, exp is accepted\. Did you mean softplus\?"):
        check_types({"scale": "softpls"}, {"scale": Option("scale", Literal["softplus", "exp"])}, "Gaussian")


def test_options_of_bases_that_a_constructor_hands_on():
    class Base:
        """A network.

        Arguments:
            given: Not an option.
            width, depth: Sizes of
                the network.
        """

        def __init__(self, given, width: int = 3, *, depth: "int" = 2):
            pass

    class Child(Base):
        def __init__(self, given, slope=0.1, **options):
            super().__init__(given, **options)

    class Closed(Child):
        def __init__(self, given):
            super().__init__(given)

    class Inheriting(Child):
        pass

    shown = [str(option) for option in options_of(Child, 1).values()]
    assert shown == ["slope: Any = 0.1", "width: int = 3", "depth: int = 2"]
    assert options_of(Inheriting, 1) == options_of(Child, 1)
    assert options_of(Child, 1)["depth"].doc == "Sizes of the network."
    assert options_of(Closed, 1) == {}


def test_minima():
    require_at_least(1, steps=1, directions=None)
    for value in (0, -3, float("nan")):
        with pytest.raises(ZooError, match=f"steps {value}: 1 or more is needed"):
            require_at_least(1, steps=value)
