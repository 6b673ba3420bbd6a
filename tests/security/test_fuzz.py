"""A sample of the mutations of ``fuzz.py`` in every test run, a million in the slow ones."""

import csv

import pytest
from conftest import REPOSITORY
from fuzz import MEMORY, SECONDS, TABLE, FoundError, Target, _changed, fuzz, shares, table, targets

from zoo.errors import ZooError

SAMPLE, MILLION = (dict(shares(inputs)) for inputs in (2_000, 1_000_000))


@pytest.mark.parametrize(("reader", "inputs"), SAMPLE.items(), ids=SAMPLE)
def test_a_sample_of_mutations(reader, inputs):
    outcome = fuzz(reader, inputs)
    assert outcome.inputs == inputs
    assert outcome.slowest < SECONDS


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("reader", "inputs"), MILLION.items(), ids=MILLION)
def test_a_million_mutations(reader, inputs):
    assert fuzz(reader, inputs, start=2).inputs == inputs


def test_the_table_has_a_million():
    """Of every reader its share, within the bounds; the page shows it."""
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["reader"] for row in rows} == set(MILLION)
    assert all(int(row["inputs"]) >= MILLION[row["reader"]] for row in rows)
    assert sum(MILLION.values()) >= 1_000_000
    for row in rows:
        assert 0 <= int(row["refused"]) <= int(row["inputs"])
        assert float(row["slowest_seconds"]) < SECONDS
        assert float(row["memory_mb"]) * 1e6 < MEMORY
    assert table(rows) in (REPOSITORY / "docs" / "reliability.md").read_text()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: [][0], "IndexError"),
        (lambda path: bytearray(2**31), "MemoryError"),
        (lambda path: list(iter(int, 1)), "signal 27"),
        (lambda path: __import__("os").kill(__import__("os").getpid(), 11), "signal 11"),
        (lambda path: (_ for _ in ()).throw(ZooError("of\nthree\nlines")), "AssertionError"),
    ],
    ids=["error", "memory", "time", "crash", "message"],
)
def test_what_is_looked_for_is_found(monkeypatch, harm, message):
    """A reader that does such a thing at the tenth input, or at each."""
    monkeypatch.setattr("fuzz.targets", lambda: {"bad": Target(harm, (b"abc",))})
    monkeypatch.setattr("fuzz.SECONDS", 0.3)
    with pytest.raises(FoundError, match=message):
        fuzz("bad", 10)


def test_every_reader_reads_what_is_valid(tmp_path):
    """What is changed is valid before; drawn sprites are made anew instead of being refused."""
    for name, target in targets().items():
        for number, content in enumerate(target.seeds):
            path = tmp_path / ("metrics.csv" if name == "metrics" else f"{name}-{number}")
            path.write_bytes(content)
            if name != "decoded pictures":  # whose name is that of the cache, beside the file
                target.read(path)


def test_mutations_are_many_and_differ():
    from hypothesis import given, settings

    seen = set()

    @settings(max_examples=200, database=None, deadline=None, derandomize=True)
    @given(_changed((bytes(range(100)),), ()))
    def collect(content):
        seen.add(content)

    collect()
    assert len(seen) > 190
