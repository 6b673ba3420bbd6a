"""What a hostile file may cost: nothing but a ZooError, within seconds and within a gigabyte."""

import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from zoo.errors import ZooError

MEMORY, SECONDS = 2**30, 5
_WAIT = 60  # seconds after which what waits for something is ended: others may have the processor


def refusal(call: Callable[[], object]) -> str:
    """The message of the ZooError that ``call()`` raises, in a process of its own with little memory and little time.

    The memory is what the process may have on top of what is there already, the time that of the processor.
    AssertionError for any other end.
    """
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_WAIT)
            try:
                report = f"nothing: it returned {call()!r}"[:500]
            except ZooError as error:
                report = f"refused {error}"
            except BaseException:
                report = traceback.format_exc()
            os.write(send, report.encode("utf-8", "backslashreplace")[:60_000])
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        report = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"ended by signal {status}: {report}"
    assert report.startswith("refused "), report
    message = report.removeprefix("refused ")
    assert message.count("\n") <= 1, message
    return message
