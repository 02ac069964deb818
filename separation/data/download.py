"""Files from the internet: downloads that go on after a cut, and folders that appear whole or not at all."""

import gzip
import hashlib
import json
import logging
import os
import shutil
import socket
import ssl
import tarfile
import tempfile
import time
import zipfile
import zlib
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from separation.errors import InputError
from separation.runs.atomic_files import FULL

log = logging.getLogger(__name__)

BLOCK = 2**18
BUSY = (408, 416, 429)  # HTTP statuses below 500 at which another attempt may do better
HOPELESS = (socket.gaierror, ssl.SSLCertVerificationError, InvalidURL)  # won't pass, where nothing has come yet
CORRUPT = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""What a damaged archive raises."""


class Archive(NamedTuple):
    """A file to download, and what becomes of it."""

    url: str
    target: str  # the folder, or file, that it becomes below the root
    inner: str = ""  # the folder in the archive that becomes the target; empty: all of it
    checksum: str = ""  # sha256:HEX, md5:HEX, or git:HEX, the file's id in git; empty: none is published
    size: int = 0  # in bytes; 0: not known

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


class Patience(NamedTuple):
    """What a download puts up with."""

    timeout: float = 30.0  # seconds without a byte that count as a cut
    attempts: int = 8  # without a new byte, one after another, until it gives up
    wait: float = 1.0  # seconds before the next attempt; doubled by each one without a new byte


PATIENCE = Patience()


def install(archive: Archive, root: Path, url: str = "", keep: bool = False, patience: Patience = PATIENCE) -> None:
    """Downloads and unpacks an archive below `root`, unless its target is there. Where the archive itself lies in
    `root`, nothing is downloaded.

    Args:
        url: replaces the published address.
        keep: leaves the archive in `root`; else it is removed once it is unpacked.

    Raises:
        InputError: it can't be downloaded, it is damaged, or the disk is full.
    """
    target = root / archive.target
    if target.exists():
        log.info("%s: is there already", target)
        return
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / f".{archive.name}.lock"):
            if not target.exists():  # another process may have done it meanwhile
                _install(archive, root, url or archive.url, keep, patience)
    except OSError as error:
        if error.errno in FULL:
            raise _no_room(root, archive.size) from error
        raise
    log.info("%s: is there", target)


def _install(archive: Archive, root: Path, url: str, keep: bool, patience: Patience) -> None:
    part, kept = root / f".{archive.name}.part", root / archive.name
    for leftover in root.glob(f".{archive.name}.*.tmp"):  # of a process that was killed while it unpacked
        shutil.rmtree(leftover, ignore_errors=True)
    if kept.exists():  # it becomes a download that has just ended
        kept.rename(part)
        part.with_suffix(".json").write_text(json.dumps({"url": url, "size": _held(part)}), encoding="utf-8")
    _download(archive, url, part, patience)
    temporary = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", suffix=".tmp", dir=root))
    try:
        _unpack(part, archive.name, temporary / "content")
        _place(temporary / "content" / archive.inner, root / archive.target)
    except CORRUPT as error:
        _forget(part)
        raise InputError(
            f"{url}: can't be unpacked ({error}) and is removed; try again, or give another address by url=ADDRESS"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if keep:
        part.rename(kept)
    _forget(part)


def _download(archive: Archive, url: str, part: Path, patience: Patience) -> None:
    """Fetches an archive and verifies its checksum; what is wrong is fetched once more, from the beginning."""
    algorithm, _, expected = archive.checksum.partition(":")
    for is_last in (False, True):
        fetch(url, part, archive.size, patience)
        if not expected:
            log.info("%s: has no published checksum; its length is verified, and that it unpacks", archive.name)
            return
        actual = checksum(part, algorithm)
        if actual == expected:
            return
        _forget(part)
        wrong = f"{url}: its {algorithm} checksum is {actual}, not {expected}; it is removed"
        if is_last:
            raise InputError(f"{wrong}, for the second time; give another address by url=ADDRESS")
        log.warning("%s and downloaded again", wrong)


# torchaudio's downloader begins anew after a cut, so the corpora that it knows are downloaded here too.
def fetch(url: str, part: Path, size: int = 0, patience: Patience = PATIENCE) -> None:
    """Downloads a file, of `size` bytes if that is known (else 0), into `part`, behind what an earlier process left
    there of it; a .json file beside it says what that is.

    Raises:
        InputError: there is no such file, it has another size, it needs too much room, or the connection stays away.
    """
    if _begun(part).get("url") != url:
        _forget(part)
    first = most = _held(part)
    log.info("%s: downloads from %.1f MB on", url, first / 1e6)
    failures = 0
    while True:
        try:
            return _attempt(url, part, size, patience.timeout)
        except (OSError, HTTPException) as error:
            reason = _reason(error, url, is_first=most == first)
            if isinstance(error, HTTPError) and error.code == 416:
                _forget(part)  # the file is shorter than the part
        held = _held(part)
        failures = 0 if held > most else failures + 1  # a server may begin anew each time, for ever
        most = max(most, held)
        if failures == patience.attempts:
            there = f"{held / 1e6:.1f} MB are there, and the same command goes on with them"
            raise InputError(f"{url}: {reason}, {failures} times in a row; {there}")
        pause = min(60, patience.wait * 2**failures)
        log.warning("%s: %s; goes on at %.1f MB in %g s", url, reason, held / 1e6, pause)
        time.sleep(pause)


def _attempt(url: str, part: Path, size: int, timeout: float) -> None:
    """One request for what is missing."""
    begun, held = _begun(part), _held(part)
    if held and held == begun["size"]:
        return
    headers = {"User-Agent": "separation", "Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
        if begun["etag"].startswith('"'):  # other tags are weak: two files may share one
            headers["If-Range"] = begun["etag"]
    with urlopen(Request(url, headers=headers), timeout=timeout) as response:
        remote = _identity(response)
        if response.status != 206:
            held = 0  # all of it comes
        elif f"bytes {held}-" not in response.headers.get("Content-Range", "") or _differ(begun, remote):
            _forget(part)
            raise ConnectionError("the file has changed, or its server sent another part of it")
        if size and remote["size"] not in (0, size):
            raise InputError(f"{url}: is {remote['size']} bytes long, not {size}; give another address by url=ADDRESS")
        _receive(response, part, held, {**remote, "url": url, "size": remote["size"] or size})


def _identity(response: HTTPResponse) -> dict[str, Any]:
    """What tells a file from another one at the same address; what the server doesn't say is empty, or 0."""
    headers = response.headers
    size = headers.get("Content-Range" if response.status == 206 else "Content-Length", "").rpartition("/")[2]
    return {
        "etag": headers.get("ETag", ""),
        "modified": headers.get("Last-Modified", ""),
        "size": int(size) if size.isdecimal() else 0,
    }


def _differ(begun: dict[str, Any], remote: dict[str, Any]) -> bool:
    return any(begun[key] and remote[key] and begun[key] != remote[key] for key in remote)


def _receive(response: HTTPResponse, part: Path, held: int, remote: dict[str, Any]) -> None:
    """Writes what comes behind the first `held` bytes of the part."""
    size = remote["size"]
    if shutil.disk_usage(part.parent).free < 2 * size - held:
        raise _no_room(part.parent, size)
    with (
        open(part, "ab" if held else "wb") as file,
        tqdm(desc=part.stem[1:], total=size or None, initial=held, unit="B", unit_scale=True, disable=None) as bar,
    ):
        if not held:  # the part is empty, so that the note is never another file's
            part.with_suffix(".json").write_text(json.dumps(remote), encoding="utf-8")
        while block := response.read1(BLOCK):  # at a cut, read would drop what it has of a block
            file.write(block)
            bar.update(len(block))
    received = _held(part)
    if size and received > size:
        _forget(part)
    if size and received != size:
        raise ConnectionError(f"the connection ended after {received} of {size} bytes")


def _reason(error: OSError | HTTPException, url: str, is_first: bool) -> str:
    """Why an attempt failed; raises where others would fail too."""
    if isinstance(error, HTTPError):
        error.close()
        if error.code < 500 and error.code not in BUSY:
            raise InputError(f"{url}: {error}; give another address by url=ADDRESS") from error
        return str(error)
    if isinstance(error, OSError) and (error.errno in FULL or error.filename):
        raise error  # of this machine, not of the connection
    reason = getattr(error, "reason", error)
    if is_first and isinstance(reason, HOPELESS):
        raise InputError(f"{url}: can't be reached ({reason}); is the address right, and this machine online?")
    return str(reason) or type(reason).__name__


def _held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _begun(part: Path) -> dict[str, Any]:
    """What the part is of, as its note says; empty where there is none."""
    try:
        begun: dict[str, Any] = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return begun


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".json").unlink(missing_ok=True)


def _no_room(folder: Path, size: int) -> InputError:
    """The sentence for a disk that is too full for an archive of `size` bytes (0: not known)."""
    archive = f"an archive of {size / 1e6:,.1f} MB" if size else "the archive"
    return InputError(
        f"{folder}: {shutil.disk_usage(folder).free / 1e6:,.1f} MB are free on its disk, too little for {archive} and"
        " what it holds, as much again at least; make room, or choose another root"
    )


def checksum(path: Path, algorithm: str) -> str:
    """A file's checksum in hex, by an algorithm of hashlib, or as git names the file."""
    name, header = ("sha1", b"blob %d\0" % path.stat().st_size) if algorithm == "git" else (algorithm, b"")
    digest = hashlib.new(name, header, usedforsecurity=False)
    with open(path, "rb") as whole, tqdm.wrapattr(whole, "read", path.stat().st_size, disable=None) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _unpack(path: Path, name: str, target: Path) -> None:
    """Unpacks a .tar.gz or .zip, whose own checksums are verified; copies another file."""
    with open(path, "rb") as whole, tqdm.wrapattr(whole, "read", path.stat().st_size, desc=name, disable=None) as file:
        if name.endswith(".tar.gz"):
            with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                tar.extractall(target, filter="data")
                while stream.read(BLOCK):
                    pass  # gzip verifies its checksum at the end, which lies behind the last member
        elif name.endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                for member in map(PurePosixPath, archive.namelist()):
                    if member.is_absolute() or ".." in member.parts:
                        raise ValueError(f"{str(member)!r} would lie outside the destination")
                archive.extractall(target)
        else:
            target.write_bytes(file.read())


def _place(content: Path, target: Path) -> None:
    """Moves what was unpacked to its name, after files beside it that aren't there yet, as LibriSpeech's README."""
    if not content.exists():
        raise ValueError(f"it holds no folder {content.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    for file in content.parent.iterdir():
        if file != content and file.is_file() and not (target.parent / file.name).exists():
            file.rename(target.parent / file.name)
    os.sync()
    content.rename(target)
