"""Downloads a corpus and unpacks it: `python scripts/download.py CORPUS root=FOLDER [subset=[NAME,...]]`.

Corpora: mini_librispeech, librispeech, vctk, musdb18hq, musdb18, minilibrimix, fsdd, and libri2mix (LibriMix's tables
of gains); for wsj0_2mix and wham it says how to obtain them. What is there already stays as it is. After a cut, also
one of this program, the same command goes on where it was. A file of a corpus that lies in root under its own name
isn't downloaded, but checked and unpacked.
"""

import logging
import re
import sys

from omegaconf import DictConfig, ListConfig

from separation.app.command import entry_point
from separation.app.literal_paths import literal
from separation.app.settings import CONF, compose_config
from separation.data.download import Archive, install
from separation.data.published_archives import CORPORA, PublishedCorpus
from separation.errors import InputError, check_choice, check_flag
from separation.runs.paths import user_path
from separation.training.interruption import Interrupted, Interruption


def selected(corpus: PublishedCorpus, program: DictConfig) -> list[tuple[Archive, str]]:
    """The archives to download, each with the address that replaces its own, or nothing."""
    names = (
        program.subset
        if isinstance(program.subset, ListConfig)
        else [program.subset]
        if program.subset is not None
        else []
    )
    names = [check_choice("subset", name, tuple(corpus.archives)) for name in names]
    archives = [corpus.archives[name] for name in names or corpus.needed or corpus.archives]
    url = program.url or ""
    if url and not re.fullmatch(r"https?://[!-~]+", str(url)):
        raise InputError(f"url={url}: expected an address that begins with https:// or http://")
    if url.endswith("/"):
        return [(archive, url + archive.name) for archive in archives]
    if url and len(archives) > 1:
        raise InputError(f"url={url}: is one file, for {len(archives)} subsets; name one by subset=NAME, or a folder/")
    return [(archive, url) for archive in archives]


def main() -> None:
    """Downloads what isn't there yet."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n{(CONF / 'download.yaml').read_text()}")
        return
    name, *overrides = sys.argv[1:] or [""]
    if name not in CORPORA:
        raise InputError(
            f"{name or 'no corpus'}: expected one of {', '.join(CORPORA)}, as in python scripts/download.py librispeech"
            " root=FOLDER"
        )
    corpus = CORPORA[name]
    if not corpus.archives:
        raise InputError(corpus.note)
    program = compose_config("download", [literal(override) for override in overrides])
    root = user_path("root", program.root)
    check_flag("keep_archive", program.keep_archive)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        with Interruption().handled():
            for archive, url in selected(corpus, program):
                install(archive, root, url, program.keep_archive)
    except Interrupted as stop:
        raise Interrupted(stop.number, "; the same command goes on") from None
    if corpus.note:
        print(corpus.note)


if __name__ == "__main__":
    entry_point(main)
