"""Files that are written whole or not at all: on a full file system, under a limit, and killed in the middle."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from zoo.errors import ZooError
from zoo.files import WriteError, write_atomically

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""

ENDLESS = """
import sys
from zoo.files import write_atomically
number = 0
while True:
    with write_atomically(sys.argv[1]) as file:
        for _ in range(50):
            file.write(number.to_bytes(8, "big") * 2000)
    print(number, flush=True)
    number += 1
"""


@pytest.fixture
def small(tmp_path):
    """A file system of its own with room for 1 MB; where it can't be mounted, the test is left to the one with a limit."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", folder], check=True)


def write(path, content: bytes):
    with write_atomically(path) as file:
        file.write(content)


def test_the_new_contents_replace_the_old(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    write(path, b"one")
    path.chmod(0o600)
    write(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["file.bin"]


def test_text_keeps_line_endings_and_is_utf8(tmp_path):
    with write_atomically(tmp_path / "a.csv", text=True) as file:
        file.write("é\r\n\n")
    assert (tmp_path / "a.csv").read_bytes() == b"\xc3\xa9\r\n\n"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), ZooError("ours")], ids=repr)
def test_an_exception_leaves_the_old_file_and_passes(tmp_path, error):
    write(tmp_path / "file", b"old")
    with pytest.raises(type(error)) as caught, write_atomically(tmp_path / "file") as file:
        file.write(b"half")
        raise error
    assert caught.value is error
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_of_another_file_is_not_taken_for_one_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError, match="picture"), write_atomically(tmp_path / "cache"):
        (tmp_path / "picture.png").read_bytes()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["bytes", "torch", "text", "at the end"])
def test_a_full_file_system(small, kind):
    path = small / "last.ckpt"
    write(path, b"old" * 1000)
    with pytest.raises(WriteError) as caught:
        if kind == "torch":
            with write_atomically(path) as file:
                torch.save({"weights": torch.zeros(1_000_000)}, file)
        elif kind == "text":
            with write_atomically(path, text=True, advice="Delete something.") as file:
                file.write("x" * 2_000_000)
        else:
            with write_atomically(path) as file:
                for _ in range(1 if kind == "at the end" else 20):
                    file.write(b"x" * (2_000_000 if kind == "at the end" else 100_000))
    advice = "Delete something." if kind == "text" else "Make room, or choose another folder, and try again."
    assert str(caught.value) == f"{path} can't be written: No space left on device.\n{advice}"
    assert isinstance(caught.value, ZooError) and isinstance(caught.value, OSError)
    assert path.read_bytes() == b"old" * 1000
    assert os.listdir(small) == ["last.ckpt"]


def test_a_file_system_without_room_for_a_name(small):
    subprocess.run(["mount", "-o", "remount,size=1m,nr_inodes=2", small], check=True)
    write(small / "file", b"old") if not (small / "file").exists() else None
    with pytest.raises(WriteError, match="No space left on device"):
        write(small / "file", b"new")
    assert (small / "file").read_bytes() == b"old"


def test_a_limit_on_the_size_of_files(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    code = f"""{LIMITED}
from zoo.errors import ZooError
from zoo.files import write_atomically
try:
    with write_atomically(sys.argv[1]) as file:
        file.write(b'x' * 200_000)
except ZooError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert out.stdout.startswith(f"{tmp_path / 'file'} can't be written: File too large.\n"), out
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("place", ["file/inside", "closed/new/file"])
def test_a_folder_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o500)
    if place.startswith("closed") and os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(WriteError, match="can't be written: "):
        write(tmp_path / place, b"")


def test_a_read_only_file_system(small):
    write(small / "file", b"old")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(WriteError, match="Read-only file system"):
        write(small / "file", b"new")
    assert (small / "file").read_bytes() == b"old"


def test_killed_in_the_middle_the_file_is_always_whole(tmp_path):
    """Each kill finds the writer at another moment; what is there is a whole version, and never one older than was told."""
    path, abandoned = tmp_path / "last.ckpt", 0
    for kill in range(20):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, path], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(0.0004 * kill)
        process.send_signal(signal.SIGKILL)
        told = int([0, *process.stdout.read().split()][-1])
        process.wait()
        content = path.read_bytes()
        number = int.from_bytes(content[:8], "big")
        assert content == content[:8] * 100_000
        assert number in (told, told + 1)
        assert len(os.listdir(tmp_path)) <= 2, "what one process left, the next one has removed"
        abandoned += len(os.listdir(tmp_path)) - 1
    assert abandoned, "no kill found the writer in the middle"
    write(path, b"done")
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path):
    path = tmp_path / "cache.bin"
    errors = []

    def many(letter):
        try:
            for _ in range(40):
                write(path, letter * 50_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=many, args=(letter,)) for letter in (b"a", b"b", b"c")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors
    assert len(set(path.read_bytes())) == 1 and path.stat().st_size == 50_000
    assert os.listdir(tmp_path) == ["cache.bin"]
