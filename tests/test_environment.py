"""What a result was made with."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from zoo.environment import command


@pytest.mark.parametrize(
    ("module", "typed", "expected"),
    [
        ("zoo.fit", ["fit.py", "--model", "vae"], "python -m zoo.fit --model vae"),
        ("zoo.__main__", ["__main__.py", "fit", "--model", "vae"], "python -m zoo fit --model vae"),
        (None, ["/somewhere/bin/zoo", "fit", "--model", "my model"], "zoo fit --model 'my model'"),
        (None, ["script.py", "3"], None),
        ("pytest.__main__", ["zoo"], None),
    ],
)
def test_the_command_is_what_was_typed(monkeypatch, module, typed, expected):
    main = ModuleType("__main__")
    main.__spec__ = None if module is None else SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", typed)
    assert command() == expected
