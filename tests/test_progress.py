"""Progress in a log file: a line a minute, and no carriage returns; on a terminal, a bar."""

import re
import sys
import time

import pytest
from tqdm.auto import tqdm

from zoo.progress import LogLines, moves, progress_bar, say


def test_a_log_file_has_lines(capsys):
    bar = progress_bar(range(5), "adding", interval=0.0)
    assert isinstance(bar, LogLines)
    assert list(bar) == [0, 1, 2, 3, 4]
    err = capsys.readouterr().err
    assert "\r" not in err
    assert [re.sub(r" \[.*", "", line) for line in err.splitlines()][-1] == "adding 5/5 batches"
    assert len(err.splitlines()) == 6


def test_between_two_lines_there_is_a_minute(capsys):
    assert progress_bar(what="training").interval == 60
    bar = progress_bar(what="training", total=100, done=10, interval=0.2)
    for _ in range(10):
        bar.update()
        time.sleep(0.05)
    bar.set_postfix({"elbo": "-90"})
    bar.close()
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[-1].startswith("training 20/100 batches [")
    assert lines[-1].endswith(", elbo=-90]")


def test_what_is_hidden_or_goes_away_says_nothing(capsys):
    list(progress_bar(range(3), "a", hidden=True))
    list(progress_bar(range(3), "b", leave=False))
    with progress_bar(what="c", hidden=True) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


def test_units_and_unknown_ends(capsys):
    list(progress_bar(range(2), "drawing", unit="images", scale=64))
    list(progress_bar(iter("ab"), "reading"))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("drawing 128/128 images [")
    assert second.startswith("reading 2 batches [")


def test_a_terminal_has_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert moves()
    bar = progress_bar(range(2), "adding", hidden=True)
    assert isinstance(bar, tqdm)
    say("a line")


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_commands_write_logs_without_carriage_returns(cli, command, run_folder):
    if command == "fit":
        status, out, err = cli("fit", "--model", "gan", "--trainer.max_steps", 3, "--wandb", "off")
    else:
        status, out, err = cli("evaluate", "--ckpt", run_folder / "checkpoints/last.ckpt")
    assert status == 0, err
    assert "\r" not in out + err
    assert len([line for line in err.splitlines() if "batches [" in line]) == 1
