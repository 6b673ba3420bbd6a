"""Help and lists on a narrow terminal."""

import pytest

from zoo.cli.terminal import fitted


@pytest.mark.parametrize("columns", [80, 50])
@pytest.mark.parametrize("arguments", [(), ("fit", "--help"), ("evaluate", "--help")], ids=str)
def test_lines_are_no_longer_than_the_terminal(cli, monkeypatch, capsys, arguments, columns):
    from zoo.cli.main import run

    monkeypatch.setenv("COLUMNS", str(columns))
    try:
        run([*arguments])
    except SystemExit as leave:
        assert not leave.code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert max(map(len, lines)) <= columns


def test_what_is_broken_goes_on_under_its_column(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert fitted("  --seed N  a random seed, which is 0 or more\nshort") == (
        "  --seed N  a random seed, which is 0 or\n            more\nshort"
    )


def test_without_a_terminal_lines_stay(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    line = "a word and " * 20
    assert fitted(line) == line
