"""Files from the network, and archives unpacked without leaving their target.

pooch fetches, caches and checks hashes; urllib3 (which it brings) waits and asks again after 429 and 5xx; what breaks
off in the middle is resumed where it stopped, in this run or the next. Every failure is one line that says what to do.
"""

import shutil
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from ..files import UserError, inside, write_aside

ATTEMPTS = 5  # in a row that bring nothing
PAUSE = 1.0  # s before the second attempt; doubles with each
TIMEOUT = (10, 60)  # s to connect, s between two packets
SPARE = 200 << 20  # bytes that a download or an archive must leave free
GROWTH = 20  # an archive of text unpacks to ten times its size, one of images to its own: more is a bomb
Progress = Callable[[int, int], None]


def nothing(done: int, total: int) -> None:
    pass


# ------------------------------------------------------------------------------------------------------------ one file


def session(parallel: int = 1):
    """A requests session that asks again after 429 and 5xx, when the server says or with growing pauses."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    status = 429, 500, 502, 503, 504
    again = Retry(ATTEMPTS, connect=0, read=0, other=0, status_forcelist=status, backoff_factor=PAUSE)
    found = requests.Session()
    for scheme in ("http://", "https://"):
        found.mount(scheme, HTTPAdapter(pool_maxsize=parallel, max_retries=again))
    return found


def fetch(
    url: str,
    path: Path,
    known_hash: str | None = None,
    valid: Callable[[Path], None] = lambda path: None,
    progress: Progress = nothing,
    connection=None,
) -> Path:
    """`url` in the file `path`, which is whole or absent; nothing is asked of the network where it stands already.

    known_hash    "sha256:…" or "md5:…";  valid(file) may raise UserError, and the file is then thrown away
    progress      (megabytes there, megabytes in all)
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    part = path.with_name(f".{path.name}.part")

    def downloader(address: str, target: str, _) -> None:
        resume(address, part, progress, connection or session())
        try:
            valid(part)
        except UserError:
            part.unlink()
            raise
        part.replace(target)

    try:
        pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=downloader)
    except requests.HTTPError as error:
        raise UserError(f"{url}: the server answers {error.response.status_code} {error.response.reason}") from None
    except requests.RequestException as error:
        again = "run the same command again, it goes on where it stopped"
        raise UserError(
            f"{urlparse(url).netloc} cannot be reached ({reason(error)}); check the network and {again}"
        ) from None
    except ValueError as error:  # pooch: the hash is another
        if "hash" not in str(error):
            raise
        raise UserError(f"{url} arrived with other content than it should have; try again later") from None
    return path


def reason(error: Exception) -> str:
    """The innermost reason of a nested network error, in a few words."""
    while (
        inner := getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, Exception)), None)
    ) is not None:
        if not isinstance(inner, Exception):
            return str(inner)
        error = inner
    return str(error).split(">: ")[-1] or type(error).__name__


def resume(url: str, part: Path, progress: Progress, connection) -> None:
    """Appends to `part` until it is whole."""
    import requests

    best = failures = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with connection.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
                if answer.status_code == 416:  # more than the server has: another file
                    part.unlink()
                    continue
                answer.raise_for_status()
                have = have if answer.status_code == 206 else 0
                total = have + int(answer.headers.get("Content-Length", 0))
                need(part.parent, total - have, f"the download of {url}")
                with open(part, "ab" if have else "wb") as file:
                    for chunk in answer.iter_content(1 << 16):
                        file.write(chunk)
                        have += len(chunk)
                        progress(have >> 20, max(total, have) >> 20)
            if have >= total:
                return
            raise requests.ConnectionError("the connection broke off")
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            best, failures = (have, 0) if have > best else (best, failures + 1)
            if failures >= (ATTEMPTS if best else 2):  # never a byte: there is no network, say so soon
                raise
            time.sleep(PAUSE * 2**failures)


def need(folder: Path, size: int, what: str) -> None:
    """UserError where `size` bytes more would not leave SPARE free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        raise UserError(f"{what} needs {gigabytes(size + SPARE)}, {folder} has {gigabytes(free)} free")


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def fetch_all(
    jobs: list[tuple[str, Path, Callable[[Path], None]]], parallel: int = 8, progress: Progress = nothing
) -> None:
    """Many small files (url, path, valid) in parallel; the first failure stops the rest and is raised."""
    from concurrent.futures import ThreadPoolExecutor

    connection, broken, done = session(parallel), threading.Event(), 0

    def one(job: tuple) -> None:
        if not broken.is_set():
            fetch(job[0], job[1], valid=job[2], connection=connection)

    with ThreadPoolExecutor(parallel) as pool:
        try:
            for done, _ in enumerate(pool.map(one, jobs), 1):
                progress(done, len(jobs))
        except BaseException:
            broken.set()
            raise


# ------------------------------------------------------------------------------------------------------------ archives


def opened(path: Path) -> zipfile.ZipFile:
    """A zip, looked over before anything is taken out; UserError for one that is broken, climbs, links or is a bomb."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is not a readable zip ({error}); remove it and run the command again") from None
    for info in archive.infolist():
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename:
            raise UserError(f"{path} holds {info.filename!r}, which leads out of its target; do not use this archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UserError(f"{path} holds {info.filename!r}, a symbolic link; do not use this archive")
    size = sum(info.file_size for info in archive.infolist())
    if size > SPARE + GROWTH * path.stat().st_size:
        raise UserError(f"{path} would unpack to {gigabytes(size)}, far more than its size suggests; do not use it")
    return archive


def unpack(
    archive: zipfile.ZipFile, target: Path, place: Callable[[str], str | None], progress: Progress = nothing
) -> Iterator[Path]:
    """Writes each member whose `place(name)` is a path below target, in the archive's order; yields the paths.

    Each is written aside and renamed, so a file that is there is whole; one of the right size is left as it is.
    """
    members = [(i, new) for i in archive.infolist() if not i.is_dir() and (new := place(i.filename))]
    members.sort(key=lambda pair: pair[0].header_offset)  # forwards only: an archive may lie in another
    need(target, sum(info.file_size for info, _ in members), f"unpacking into {target}")
    for done, (info, new) in enumerate(members, 1):
        path = inside(target, new)
        if not path.is_file() or path.stat().st_size != info.file_size:
            try:
                with write_aside(path) as aside, archive.open(info) as source, open(aside, "wb") as file:
                    shutil.copyfileobj(source, file)
            except (zipfile.BadZipFile, EOFError) as error:
                raise UserError(
                    f"{archive.filename or info.filename} is damaged ({error}); remove it and try again"
                ) from None
        progress(done, len(members))
        yield path
