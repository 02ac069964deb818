import hashlib
import io
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import ROOT, run_program
from omegaconf import OmegaConf

from separation.data.download import Archive, Patience, checksum, fetch, install
from separation.errors import InputError

CONTENT = np.random.default_rng(0).bytes(100_000)
BACKWARDS = CONTENT[::-1]
QUICK = Patience(timeout=0.5, attempts=3, wait=0)
USUAL = {"headers": {"ETag": '"new"'}, "too_late": 0, "too_much": 0, "stall": 0, "cut": None}
SCRIPT = ROOT / "scripts/download.py"


class Handler(BaseHTTPRequestHandler):
    """Serves one file; how, the server's `answers` tell, one a request, and after them `otherwise`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        answer = USUAL | {"body": server.body} | (server.answers.pop(0) if server.answers else server.otherwise)
        body, headers = answer["body"], answer["headers"].copy()
        offset = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=")[:-1])
        server.offsets.append(offset)
        has_changed = self.headers.get("If-Range", headers.get("ETag")) != headers.get("ETag")
        start = 0 if "ignores_range" in answer or (has_changed and "ignores_if_range" not in answer) else offset
        status = answer.get("status") or (416 if start > len(body) else 206 if start else 200)
        if status >= 400:
            return self.send_error(status)
        start += answer["too_late"]
        rest = body[start:] + bytes(answer["too_much"])
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if "chunked" in answer:
            headers["Transfer-Encoding"] = "chunked"
            rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
        elif "no_length" not in answer:
            headers["Content-Length"] = str(len(rest))
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(rest[: answer["cut"]])
        time.sleep(answer["stall"])
        self.wfile.write(rest[answer["cut"] :] if answer["stall"] else b"")  # too late


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = Mock()  # clients that leave early are no noise
        server.body, server.answers, server.otherwise, server.offsets = CONTENT, [], {}, []
        server.url = f"http://127.0.0.1:{server.server_port}/file"
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


def packed(name: str, files: dict[str, bytes]) -> bytes:
    """An archive of the kind that `name` ends with."""
    buffer, is_zip = io.BytesIO(), name.endswith(".zip")
    with zipfile.ZipFile(buffer, "w") if is_zip else tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file, content in files.items():
            if is_zip:
                archive.writestr(file, content)
            else:
                (member := tarfile.TarInfo(file)).size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


GOOD = {"top/a": CONTENT}
PART = {"cut": 30_000}
BARE, OLD = {"headers": {}}, {"body": BACKWARDS, **PART}
WEAK = [{"headers": {"ETag": f'W/"{name}"'}} for name in ("old", "new")]
DATED = [{"headers": {"Last-Modified": name}} for name in ("Monday", "Friday")]


@pytest.mark.parametrize(
    ("answers", "offsets"),
    [
        ([PART, {"cut": 20_000}, {"cut": 0}], [0, 30_000, 50_000, 50_000]),
        ([{"stall": 2, **PART}], [0, 30_000]),
        ([{"chunked": True, "cut": 30_000 + len("186a0\r\n")}], [0, 30_000]),
        ([{"status": 500}, {"status": 429}], [0, 0, 0]),
        ([{"no_length": True}], [0]),
        ([PART, {"ignores_range": True}], [0, 30_000]),
        ([{**OLD, "headers": {"ETag": '"old"'}}], [0, 30_000]),
        ([{**OLD, "headers": {"ETag": '"old"'}}, {"ignores_if_range": True}], [0, 30_000, 0]),
        ([OLD | WEAK[0], WEAK[1]], [0, 30_000, 0]),
        ([OLD | DATED[0], DATED[1]], [0, 30_000, 0]),
        ([{**OLD, "body": BACKWARDS + b"longer", **BARE}, BARE], [0, 30_000, 0]),
        ([{**OLD, "body": BACKWARDS + b"longer", "cut": 100_001, **BARE}, BARE], [0, 100_001, 0]),  # status 416
        ([OLD | BARE, {"too_late": 5, **BARE}], [0, 30_000, 0]),
        ([OLD | BARE, {"too_much": 5, **BARE}], [0, 30_000, 0]),
    ],
)
def test_a_download_goes_on_or_begins_anew(answers, offsets, server, tmp_path):
    server.answers = answers.copy()
    fetch(server.url, tmp_path / "part", patience=QUICK)
    assert server.offsets == offsets and (tmp_path / "part").read_bytes() == CONTENT


def test_it_gives_up_without_progress_and_goes_on_when_started_again(server, tmp_path):
    part, server.answers, server.otherwise = tmp_path / "part", [PART], {"status": 503}
    with pytest.raises(InputError, match=f"{server.url}: HTTP Error 503: .*, 3 times in a row; 0.0 MB are there, and"):
        fetch(server.url, part, patience=QUICK)
    assert len(server.offsets) == 1 + 3 and part.read_bytes() == CONTENT[:30_000]
    server.otherwise = {}
    for _ in range(2):  # the second time, nothing is missing
        fetch(server.url, part, patience=QUICK)
        assert server.offsets[4:] == [30_000] and part.read_bytes() == CONTENT
    fetch(server.url + "/mirror", part, patience=QUICK)
    assert server.offsets[5:] == [0]  # which may have another file


@pytest.mark.parametrize(
    ("answer", "size", "requests", "words"),
    [
        ({"status": 403}, 0, 1, "HTTP Error 403: Forbidden; give another address by url=ADDRESS"),
        ({"status": 404}, 0, 1, "HTTP Error 404: Not Found; give another address by url=ADDRESS"),
        ({}, 99_999, 1, "is 100000 bytes long, not 99999; give another address"),
        ({"no_length": True, "too_much": 7}, 100_000, 3, "ended after 100007 of 100000 bytes, 3 times in a row"),
        ({"ignores_range": True, **PART}, 0, 1 + 3, "ended after 30000 of 100000 bytes, 3 times in a row"),
    ],
)
def test_what_will_not_come_is_not_asked_for_again_and_again(answer, size, requests, words, server, tmp_path):
    server.otherwise = answer
    with pytest.raises(InputError, match=f"{server.url}: .*{words}"):
        fetch(server.url, tmp_path / "part", size, QUICK)
    assert len(server.offsets) == requests


def test_machines_that_do_not_answer(tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(InputError, match="Connection refused, 8 times in a row"):
        fetch("http://127.0.0.1:1/file", tmp_path / "part")
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=socket.gaierror(-2, "Name or service not known")))
    with pytest.raises(InputError, match="can't be reached .*not known.*; is the address right, and this machine on"):
        fetch("http://nowhere.invalid/file", tmp_path / "part")
    assert len(waits) == 7


def test_full_disks(server, tmp_path, monkeypatch):
    archive = Archive("http://unused/a.zip", "a")
    monkeypatch.setattr(shutil, "disk_usage", Mock(return_value=Mock(free=170_000)))
    with pytest.raises(InputError, match="0.2 MB are free on its disk, too little for an archive of 0.1 MB"):
        install(archive, tmp_path, server.url, patience=QUICK)
    assert names(tmp_path) == []
    monkeypatch.undo()
    (tmp_path / ".a.zip.part").symlink_to("/dev/full")
    (tmp_path / ".a.zip.json").write_text(f'{{"url": "{server.url}"}}')
    with pytest.raises(InputError, match="too little for the archive .*choose another root"):
        install(archive, tmp_path, server.url, patience=QUICK)
    assert len(server.offsets) == 2 and not (tmp_path / "a").exists()


def test_a_wrong_checksum_is_downloaded_once_more(server, tmp_path):
    found, expected = (hashlib.sha256(content).hexdigest() for content in (BACKWARDS, CONTENT))
    archive = Archive("http://unused/a.csv", "tables/a.csv", checksum=f"sha256:{expected}")
    server.otherwise = {"body": BACKWARDS}
    with pytest.raises(InputError, match=f"its sha256 checksum is {found}, not {expected}; it is removed, for the sec"):
        install(archive, tmp_path, server.url, patience=QUICK)
    assert server.offsets == [0, 0] and names(tmp_path) == []
    server.answers, server.otherwise = [{"body": BACKWARDS}], {}
    install(archive, tmp_path, server.url, patience=QUICK)
    assert (server.offsets, names(tmp_path)) == (4 * [0], ["tables"]) and names(tmp_path / "tables") == ["a.csv"]
    assert (tmp_path / "tables/a.csv").read_bytes() == CONTENT
    assert checksum(tmp_path / "tables/a.csv", "git") == hashlib.sha1(b"blob 100000\0" + CONTENT).hexdigest()


def test_subsets_share_a_folder_and_an_archive_that_was_kept_is_not_downloaded(server, tmp_path):
    first = {"Libri/README": b"first", "Libri/one/1/a.flac": CONTENT, "Libri/one/2/b.flac": b""}
    second = {"Libri/README": b"second", "Libri/SPEAKERS": b"2", "Libri/two/3/c.flac": b"c"}
    for subset, files in {"one": first, "two": second}.items():
        server.body = packed("a.tar.gz", files)
        archive = Archive(f"http://unused/{subset}.tar.gz", f"Libri/{subset}", f"Libri/{subset}")
        for _ in range(2):
            install(archive, tmp_path, server.url, keep=subset == "two", patience=QUICK)
    assert server.offsets == [0, 0] and names(tmp_path) == ["Libri", "two.tar.gz"]
    assert names(tmp_path / "Libri") == ["README", "SPEAKERS", "one", "two"]
    assert (tmp_path / "Libri/README").read_bytes() == b"first"
    assert (tmp_path / "Libri/one/1/a.flac").read_bytes() == CONTENT
    shutil.rmtree(tmp_path / "Libri/two")
    install(archive, tmp_path, patience=QUICK)
    assert names(tmp_path) == ["Libri"] and (tmp_path / "Libri/two/3/c.flac").read_bytes() == b"c"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_an_interrupted_unpacking_leaves_only_the_download(name, server, tmp_path, monkeypatch):
    server.body = packed(name, {"top/a.wav": CONTENT})
    arguments = (Archive(f"http://unused/{name}", "corpus", "top"), tmp_path, server.url, False, QUICK)
    (tmp_path / f".{name}.killed.tmp/content").mkdir(parents=True)
    monkeypatch.setattr("os.sync", Mock(side_effect=KeyboardInterrupt))  # a signal may be ignored where tests run
    with pytest.raises(KeyboardInterrupt):
        install(*arguments)
    monkeypatch.undo()
    assert names(tmp_path) == [f".{name}.json", f".{name}.part"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: install(*arguments), range(2)))
    assert names(tmp_path) == ["corpus"] and server.offsets == [0]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("a.tar.gz", packed("a.tar.gz", {"../evil": b""}), "outside the destination"),
        ("a.zip", packed("a.zip", {"top/../../evil": b""}), "'top/../../evil' would lie outside the destination"),
        ("a.zip", packed("a.zip", {"/evil": b""}), "'/evil' would lie outside the destination"),
        ("a.zip", packed("a.zip", GOOD)[:-10], "not a zip file"),
        ("a.zip", packed("a.zip", GOOD).replace(CONTENT[:50], CONTENT[50:100]), "CRC"),
        ("a.tar.gz", packed("a.tar.gz", GOOD)[:-6], "ended before"),
        ("a.tar.gz", packed("a.tar.gz", GOOD)[:-8] + bytes(8), "CRC"),
        ("a.tar.gz", b"<html>Please log in</html>", "Not a gzipped file"),
        ("a.tar.gz", packed("a.tar.gz", {"bottom/a": CONTENT}), "holds no folder top"),
    ],
    ids=[
        "up",
        "up again",
        "absolute",
        "cut zip",
        "changed",
        "cut",
        "checksum",
        "page",
        "other",
    ],  # gzip's bytes have the time
)
def test_unsafe_and_damaged_archives_are_refused(name, body, words, server, tmp_path):
    server.answers, server.body = [{"body": body}], packed(name, GOOD)
    arguments = (Archive(f"http://unused/{name}", "corpus", "top"), tmp_path / "root", server.url, False, QUICK)
    with pytest.raises(InputError, match=rf"can't be unpacked \(.*{words}.*\) and is removed; try again"):
        install(*arguments)
    assert names(tmp_path) == ["root"] and names(tmp_path / "root") == []
    install(*arguments)
    assert (tmp_path / "root/corpus/a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (
            "",
            1,
            "no corpus: expected one of librispeech, mini_librispeech, vctk, musdb18hq, musdb18, minilibrimix",
        ),
        ("timit root=x", 1, "timit: expected one of librispeech, mini_librispeech, vctk"),
        ("vctk", 2, "root: has no value; give it one, as in root=VALUE"),
        ("librispeech root=x subset=dev", 1, "subset=dev: expected one of dev-clean, dev-other"),
        ("librispeech root=x url=http://x/y.tar.gz", 1, "is one file, for 2 subsets; name one by subset=NAME"),
        ("vctk root=x url=ftp://x/y.zip", 1, "url=ftp://x/y.zip: expected an address that begins with https://"),
        ("vctk root=x keep_archive=perhaps", 1, "keep_archive=perhaps: expected true or false"),
        ("wsj0_2mix", 1, "LDC93S6A"),
        ("wham root=x", 1, "http://wham.whisper.ai"),
    ],
)
def test_the_script_says_what_it_needs(arguments, status, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # so that it's unset again
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    output = capsys.readouterr().err
    assert (stop.value.code, names(tmp_path)) == (status, []) and words in output and "Traceback" not in output


def test_the_table_of_corpora():
    script = runpy.run_path(str(SCRIPT))
    archives = [archive for corpus in script["CORPORA"].values() for archive in corpus.archives.values()]
    assert len({archive.name for archive in archives}) == len({archive.target for archive in archives}) == 18
    assert {len(archive.checksum) for archive in archives} == {7 + 64, 4 + 32, 4 + 40, 0}  # sha256, md5, git, none
    own = OmegaConf.create({"subset": None, "url": "https://mirror/12/"})
    addresses = [address for _, address in script["selected"](script["CORPORA"]["librispeech"], own)]
    assert addresses == ["https://mirror/12/train-clean-100.tar.gz", "https://mirror/12/test-clean.tar.gz"]


def test_the_script_goes_on_after_ctrl_c(server, tmp_path):
    server.body = packed("a.tar.gz", {"free-spoken-digit-dataset-1.0.10/recordings/0_theo_0.wav": CONTENT})
    server.answers = [{"stall": 60, **PART}]
    arguments = ["fsdd", "root=.", f"url={server.url}"]
    process = subprocess.Popen([sys.executable, SCRIPT, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    part = tmp_path / ".v1.0.10.tar.gz.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "stopped by SIGINT; the same command goes on\n"
    assert process.returncode == 130 and (held := part.stat().st_size)
    result = run_program("scripts/download.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0 and "free-spoken-digit-dataset: is there" in result.stdout, result.stderr
    assert server.offsets == [0, held] and names(tmp_path) == ["free-spoken-digit-dataset"]
    assert (tmp_path / "free-spoken-digit-dataset/recordings/0_theo_0.wav").read_bytes() == CONTENT
