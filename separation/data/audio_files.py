"""Finds audio files in folders as people keep them: with links, trash, caches and files of other kinds among them."""

import logging
import mimetypes
import os
from collections import Counter
from pathlib import Path

from separation.runs.paths import printable

log = logging.getLogger(__name__)

_LIBSNDFILE = ".wav .wave .bwf .flac .ogg .oga .mp3 .aif .aiff .aifc .opus .w64 .rf64 .au .snd .caf .sph .nist .voc"
_PYAV = ".m4a .m4b .aac .webm .wv .wma .mka .3gp .amr .ac3 .mp2 .ape .tta"
_OTHER = ".wv1 .wv2 .raw .pcm .vox .gsm .mpc .dsf .dff .ra .rm .mp4 .mov .mkv .avi .mxf .aax"
LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, OTHER_SUFFIXES = (
    frozenset(names.split()) for names in (_LIBSNDFILE, _PYAV, _OTHER)
)
AUDIO_SUFFIXES = LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES
"""OTHER_SUFFIXES: audio and video that isn't read here (WSJ0's .wv1 is compressed by shorten), beside what the system
knows."""

_SYSTEMS = "$RECYCLE.BIN RECYCLER #recycle @Recycle @eaDir Trash __MACOSX __pycache__ lost+found"
NOT_PEOPLES = frozenset([*_SYSTEMS.split(), "System Volume Information"])
"""Folders that systems make: trash, previews, halves of files of other systems."""
CACHE_MARKER = "CACHEDIR.TAG"
"""A folder that holds it is a cache (bford.info/cachedir)."""
NAMED = 5


def is_hidden(name: str) -> bool:
    """Whether a file or folder isn't one of the people's own: hidden, trash, a preview."""
    return name.startswith(".") or name in NOT_PEOPLES


def is_media(name: str) -> bool:
    """Whether the system takes a file for audio or video."""
    return (mimetypes.guess_type(name)[0] or "").startswith(("audio/", "video/"))


def audio_files(root: Path) -> list[Path]:
    """Every audio file below `root`, sorted by path.

    Links to folders are followed, each folder once. Hidden files are left out, and all that lies in hidden folders,
    trash and caches; links to nowhere and audio or video of other kinds are left out with a warning that names them. A
    link to nowhere whose name is an audio file's stays in the list: reading it fails.
    """
    files: list[Path] = []
    dead: list[Path] = []
    unknown: Counter[str] = Counter()
    seen: set[str] = set()
    folders, links = [root], list[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)  # where a folder lies itself goes before links to it
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as entries:
            there = [entry for entry in entries if not is_hidden(entry.name)]
        if folder != root and os.path.exists(folder / CACHE_MARKER):
            continue
        for entry in there:
            path = folder / entry.name
            suffix = path.suffix.lower()
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif entry.is_symlink() and not path.exists():
                (files if suffix in AUDIO_SUFFIXES else dead).append(path)
            elif not entry.is_file():  # a pipe, which would be waited for
                continue
            elif suffix in AUDIO_SUFFIXES:
                files.append(path)
            elif suffix in OTHER_SUFFIXES or is_media(entry.name):
                unknown[suffix] += 1
    if dead:
        log.warning("%s: left out links to what isn't there: %s", root, named_paths(dead))
    if unknown:
        kinds = ", ".join(f"{suffix}: {count}" for suffix, count in sorted(unknown.items()))
        log.warning("%s: left out audio or video of kinds that aren't read (%s); convert them to FLAC", root, kinds)
    return sorted(files)


def named_paths(paths: list[Path]) -> str:
    """The first few paths, and how many more there are."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(map(printable, sorted(paths)[:NAMED])) + more


def name_below(path: Path, root: Path) -> str:
    """A file's path below `root` as a name that can be written down, `/` between its parts."""
    return printable(path.relative_to(root).as_posix())
