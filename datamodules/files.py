"""Where data files are found, how they are downloaded, and what is said where neither works."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from zoo.errors import ZooError

__all__ = ["Published", "download", "find", "reading"]


class Published(NamedTuple):
    """A file as its authors publish it: its name, its MD5 or SHA-256, and the addresses that are tried in turn."""

    name: str
    digest: str
    urls: tuple[str, ...]

    @property
    def algorithm(self) -> str:
        """Which of the two the digest is, by its length."""
        return "MD5" if len(self.digest) == 32 else "SHA-256"

    def __str__(self) -> str:
        return f"{self.name} ({self.algorithm} {self.digest})"


def find(root: str | os.PathLike, folders: Iterable[str | Path], names: Iterable[str]) -> Path | None:
    """The first file called one of ``names`` in one of ``folders`` under ``root`` ("" is root itself), or None.

    Folders come before names: what lies in the data set's own folder is taken before what lies beside it.
    """
    names = tuple(names)
    places = (Path(root).expanduser() / folder / name for folder in folders for name in names)
    return next((place for place in places if place.is_file()), None)


def download(file: Published, folder: str | os.PathLike, advice: str) -> Path:
    """Put a published file into ``folder``, with a progress bar; it has its name only once it is whole and verified.

    Arguments:
        file: What to download; its addresses are tried in turn.
        folder: Where to put it; made if it isn't there, and gone again if nothing could be downloaded.
        advice: What to do where nothing can be downloaded, after "... can't be downloaded (why). "

    Raises:
        ZooError: with the name, the digest, what each address answered, and the advice.
    """
    # Slow to import, and needed once in the life of a data folder.
    import pooch
    import requests

    folder = Path(folder).expanduser()
    answers, made = [], [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for url in file.urls:
            try:
                known = f"{file.algorithm.lower().replace('-', '')}:{file.digest}"
                return Path(pooch.retrieve(url, known, file.name, folder, progressbar=True))
            except (requests.RequestException, ValueError) as error:
                answers.append(f"{urlsplit(url).netloc}: {_answer(error) or f'what came has another {file.algorithm}'}")
    except OSError as error:
        why = error.strerror or error
        raise ZooError(f"{folder / file.name} can't be written: {why}. Give another folder with --data.root.") from None
    with contextlib.suppress(OSError):  # somebody else has put something there
        for each in made:
            each.rmdir()
    raise ZooError(f"{file} was not found and can't be downloaded ({'; '.join(answers)}).\n{advice}")


def _answer(error: Exception) -> str | None:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.RequestException):
        return "no connection"
    return None


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Turn what readers raise on a damaged or wrong file into one ZooError that names the file."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # damage can surface as almost any error of zip, gzip, tar, pickle or their headers
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise ZooError(f"{path} can't be read ({why}): damaged or of another kind. Replace or remove it.") from None
