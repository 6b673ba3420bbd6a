"""Pickles read as data: an interpreter of the few opcodes that data need, which can call nothing that it isn't given."""

import pickletools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

__all__ = ["ForeignCallError", "Global", "read_pickle"]

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT")
_PAYLOADS = ("BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8")
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "MARK": lambda: _MARK}
_DEEPEST = 60  # containers within containers
_WRITTEN_OUT = 2_000_000  # values, of what is held several times each time


class ForeignCallError(ValueError):
    """A pickle wants to call a class or function that it was not given.

    Attributes:
        name: Which one, ``module.name``.
    """

    def __init__(self, name: str):
        super().__init__(f"it wants to call {name}")
        self.name = name


class Global(NamedTuple):
    """The name of a class or function, ``module.name``, where a pickle has it as a value."""

    name: str


def read_pickle(
    content: bytes,
    calls: Mapping[str, Callable[..., Any]],
    storage: Callable[[Any], Any] | None = None,
    most: int = 1_000_000,
) -> Any:
    """What a pickle holds, made of ``None``, numbers, strings, bytes, tuples, lists and dictionaries, and of no classes.

    The standard library's ``Unpickler``, restricted or not, can be held up for ever by some kilobytes: tuples that hold
    each other twice, thirty times over, are hashed for years. Here time and memory are bounded by the length of the pickle:
    keys of dictionaries are strings, small numbers, and tuples of these, nothing contains itself, and nothing is far larger
    written out than it is stored.

    Arguments:
        content: The pickle.
        calls: What it may call, by the names that it uses: they get the arguments, and what they return takes the place of
            the object. Where the pickle also sets an object's state, it must have a method ``build(state)``.
        storage: Called with each persistent id; without it there may be none.
        most: How many opcodes it may have; a million takes about a second.

    Raises:
        ForeignCallError: where it wants to call anything else.
        ValueError: for whatever else data do not need, or is damaged.

    Example:
        >>> import pickle
        >>> read_pickle(pickle.dumps({"a": [1, 2.5, (None, True)]}), {})
        {'a': [1, 2.5, (None, True)]}
        >>> read_pickle(pickle.dumps(print), {})
        Traceback (most recent call last):
        zoo.pickles.ForeignCallError: it wants to call builtins.print
    """
    machine = _Machine(calls, storage)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number > most:
            raise ValueError(f"it has more than {most:,} opcodes")
        if (run := machine.opcodes.get(opcode.name)) is None:
            raise ValueError(f"it has the opcode {opcode.name}, which data do not need")
        run(argument)
    (value,) = machine.stack
    _require_tree(value, _WRITTEN_OUT)
    return value


class _Machine:
    """The stack and the memo of an unpickler."""

    def __init__(self, calls: Mapping[str, Callable[..., Any]], storage: Callable[[Any], Any] | None):
        self.calls = calls
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        push = self.stack.append
        self.opcodes: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _: None),
            **{name: partial(lambda value, _: push(value), value) for name, value in _CONSTANTS.items()},
            **{name: partial(lambda make, _: push(make()), make) for name, make in _EMPTY.items()},
            **dict.fromkeys(_PAYLOADS, push),
            **dict.fromkeys(_NUMBERS, self._number),
            **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING"), lambda text: push(text.encode("latin1"))),  # Python 2's
            **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), self._store),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), self._recall),
            **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), self._name),
            "TUPLE": lambda _: push(tuple(self._pop_mark())),
            "TUPLE1": lambda _: push((self._pop(),)),
            "TUPLE2": lambda _: push((self._pop(), self._pop())[::-1]),
            "TUPLE3": lambda _: push((self._pop(), self._pop(), self._pop())[::-1]),
            "APPEND": lambda _: self._append([self._pop()]),
            "APPENDS": lambda _: self._append(self._pop_mark()),
            "SETITEM": lambda _: self._set([self._pop(), self._pop()][::-1]),
            "SETITEMS": lambda _: self._set(self._pop_mark()),
            "REDUCE": self._call,
            "BUILD": self._build,
        }
        if storage is not None:
            self.opcodes["BINPERSID"] = lambda _: push(storage(self._pop()))

    def _number(self, number: int) -> None:
        if number.bit_length() > 256:
            raise ValueError("a number in it is too large")
        self.stack.append(number)

    def _store(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self._top()

    def _recall(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError("it takes up what it never stored")
        self.stack.append(self.memo[place])

    def _append(self, items: list) -> None:
        self._top(list).extend(items)

    def _call(self, _: None) -> None:
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise ValueError("it wants to call what is no function")
        self.stack.append(self.calls[called.name](*arguments))

    def _build(self, _: None) -> None:
        state = self._pop()
        if not hasattr(self._top(), "build"):
            raise ValueError("it sets the state of what has none")
        self._top().build(state)

    def _name(self, argument: str | None) -> None:
        if argument is None:
            name, module = self._pop(), self._pop()
            path = f"{module}.{name}"
        else:
            path = argument.replace(" ", ".", 1)
        if path not in self.calls:
            raise ForeignCallError(path[:200])
        self.stack.append(Global(path))

    def _set(self, items: list) -> None:
        target = self._top(dict)
        if len(items) % 2:
            raise ValueError("its opcodes don't fit together")
        if not all(map(_is_key, items[::2])):
            raise ValueError("a key in it is neither a string nor a small number")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _top(self, kind: type = object) -> Any:
        if not self.stack or self.stack[-1] is _MARK or not isinstance(self.stack[-1], kind):
            raise ValueError("its opcodes don't fit together")
        return self.stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self.stack.pop()

    def _pop_mark(self) -> list:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise ValueError("its opcodes don't fit together")


def _is_key(key: Any, depth: int = 0) -> bool:
    """Whether a key is hashed at once, and not like all others: large numbers may be chosen to have one hash."""
    if isinstance(key, tuple):
        return depth < 3 and len(key) < 16 and all(_is_key(part, depth + 1) for part in key)
    return isinstance(key, str | bytes | None) or (isinstance(key, int | float) and -(2**31) < key < 2**31)


def _require_tree(value: Any, most: int) -> None:
    """ValueError where containers contain themselves, lie too deep in one another, or are too large written out."""
    sizes: dict[int, int] = {}  # of the containers that are done, by identity: written out, with all that they hold
    open_: set[int] = set()
    path = [(value, iter(_parts(value)))]
    open_.add(id(value))
    while path:
        container, parts = path[-1]
        for part in parts:
            if isinstance(part, list | tuple | dict) and id(part) not in sizes:
                if id(part) in open_ or len(path) >= _DEEPEST:
                    raise ValueError("its containers contain themselves, or too many others")
                open_.add(id(part))
                path.append((part, iter(_parts(part))))
                break
        else:
            path.pop()
            open_.discard(id(container))
            size = 1 + sum(sizes.get(id(part), 1) for part in _parts(container))
            if size > most:
                raise ValueError("it is far larger written out than it is stored")
            sizes[id(container)] = size


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
