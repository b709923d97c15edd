"""What a picture is: its place below the folder of the data, however a list spells it."""

from __future__ import annotations

import glob
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from absl import logging

from xmodal_jax.data.formats import FORMATS, REFUSED_SUFFIXES, SUFFIXES
from xmodal_jax.errors import UserError, printable
from xmodal_jax.files import at_home

ADVICE = "Data stay below their folder: give the folder above as path, or allow it by --config.data.allow_outside=True."
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]+://|[A-Za-z]:[\\/]")  # what is no name of a file here
_FILE, _FOLDER, _LINK, _ODD = "file", "folder", "link", "odd"


@dataclass(frozen=True)
class Place:
    """place: the path below the root, with slashes and without links, that tells pictures apart. file: None where there is
    none, for a reason (`why`), such as that it `is_outside`.
    """

    place: str
    file: str | None = None
    why: str = ""
    is_outside: bool = False


@dataclass(frozen=True)
class Base:
    """A folder that names may start from, and how they are spelled there."""

    folder: Path
    spell: Callable[[str], str] | None = None


def given_path(path: str | os.PathLike) -> Path:
    """A path as a user gives it: ~ is the home folder."""
    return Path(at_home(path))


class Places:
    """Finds files by listings of folders: no stat per file, so that large folders open fast.

    Names match in any Unicode normalisation. What lies outside of the root, by its path or by a link, is not found unless
    `allow_outside`; links to the blobs of a hub cache are followed where the root is a snapshot in it. Regular files only.
    """

    def __init__(self, root: Path, allow_outside: bool = False):
        self.root, self.real, self.allow_outside = os.path.abspath(root), os.path.realpath(root), allow_outside
        parts = self.real.split(os.sep)
        kept = parts.index("snapshots") if "snapshots" in parts else 0
        self.blobs = os.sep.join([*parts[:kept], "blobs"]) if kept else None
        self._listed: dict[str, dict[str, str]] = {}
        self._alike: dict[str, dict[str, str | None]] = {}
        self._folders: dict[str, str | None] = {}
        self._resolved: dict[str, tuple[str | None, str]] = {}

    def find(self, name: str, bases: tuple[Base, ...]) -> Place:
        """The place of a listed name, from the first of the bases that has it."""
        first, name = None, unquote(urlsplit(name).path) if name.startswith("file://") else name
        for base in bases:
            spelled = base.spell(name) if base.spell else name
            for spelling in (spelled, spelled.replace("\\", "/")) if "\\" in spelled else (spelled,):
                for path in self._paths(os.path.abspath(base.folder), spelling):
                    place = self._at(path)
                    if place.file is not None:
                        return place
                    if first is None or place.why and not (first.why or place.is_outside):
                        first = place
        if not first.why and _ELSEWHERE.match(name):
            return replace(first, why="is a URL, which is not fetched" if "://" in name else "is a path of Windows")
        return first

    def alike(self, name: str, bases: tuple[Base, ...]) -> str:
        """What a picture that is missing may be called: a file beside it whose name differs in case or suffix; "" without."""
        for base in bases:
            folder, _, own = name.replace("\\", "/").rpartition("/")
            real, why = self._resolve(os.path.normpath(os.path.join(os.path.abspath(base.folder), folder)))
            stem = os.path.splitext(own)[0].casefold()
            names = sorted(self._names(real)) if real and not why else ()
            parts = map(os.path.splitext, names)
            found = next((name + suffix for name, suffix in parts if name.casefold() == stem and is_picture(suffix)), "")
            if found:
                return found
        return ""

    def _paths(self, folder: str, name: str):
        """Where a name may be meant: below a folder, or beside it where the name begins with the folder's own."""
        yield os.path.normpath(os.path.join(folder, name))
        parts, own = name.split("/"), folder.split(os.sep)
        for count in range(1, min(len(parts), len(own))):
            if parts[:count] == own[-count:]:
                yield os.path.normpath(os.path.join(folder, *parts[count:]))

    def _at(self, path: str) -> Place:
        folder, name = os.path.split(path)
        if folder not in self._resolved:
            self._resolved[folder] = self._resolve(folder)
        real, why = self._resolved[folder]
        if why or path == self.root:
            return Place(self._below(path), why=why or "is a folder", is_outside=bool(why))
        entry = None if real is None else self._entry(real, name)
        if entry is None:
            return Place(self._below(path))
        kind, file = self._names(real)[entry], os.path.join(real, entry)
        place = self._below(file)
        if kind == _LINK:
            target = os.path.realpath(file)
            if not (self.allow_outside or self.is_within(target)):
                return Place(place, why=f"is a link out of {self.root}", is_outside=True)
            kind = _FILE if os.path.isfile(target) else _ODD
            place = self._below(target) if _is_in(self.real, target) else place
        if kind == _FOLDER:
            return Place(place, why="is a folder")
        return Place(place, file) if kind == _FILE else Place(place, why="is no regular file")

    def _resolve(self, folder: str) -> tuple[str | None, str]:
        """(the folder without links, None where there is none; why nothing in it may be read, "" else)."""
        if _is_in(self.root, folder) or _is_in(self.real, folder):
            real = self._folder(self._cut(folder) or ".")
        elif not self.allow_outside:
            return None, f"lies outside of {self.root}"
        else:
            real = os.path.realpath(folder) if "\0" not in folder else None
        is_free = real is None or self.allow_outside or self.is_within(real)
        return real, "" if is_free else f"is behind a link out of {self.root}"

    def is_within(self, real: str) -> bool:
        """Whether a path without links is below the root, or among the blobs of its hub cache."""
        return _is_in(self.real, real) or self.blobs is not None and _is_in(self.blobs, real)

    def _cut(self, path: str) -> str:
        """A path below the root from there on, another as it is."""
        for top in (self.root, self.real):
            if _is_in(top, path):
                return path[len(top.rstrip(os.sep)) + 1 :]
        return path

    def _below(self, path: str) -> str:
        below = self._cut(path)
        below = below if below.isascii() else unicodedata.normalize("NFC", below)
        return below.replace(os.sep, posixpath.sep)

    def _folder(self, below: str) -> str | None:
        """The folder at a path below the root without links, its parts found as names of files are."""
        if below == ".":
            return self.real
        if below not in self._folders:
            parent, name = os.path.split(below)
            real = self._folder(parent or ".")
            found = None if real is None else self._entry(real, name)
            kind = None if found is None else self._names(real)[found]
            path = None if found is None else os.path.join(real, found)
            if kind == _LINK:
                path = os.path.realpath(path)
            self._folders[below] = path if kind in (_FOLDER, _LINK) else None
        return self._folders[below]

    def _entry(self, folder: str, name: str) -> str | None:
        """What a folder calls an entry: the name, or the one that is written otherwise."""
        names = self._names(folder)
        if name in names:
            return name
        if folder not in self._alike:
            alike: dict[str, str | None] = {}
            for one in names:
                alike[_key(one)] = one if _key(one) not in alike else None  # of two neither
            self._alike[folder] = alike
        return self._alike[folder].get(_key(name))

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            try:
                with os.scandir(folder) as entries:
                    self._listed[folder] = {entry.name: _kind(entry) for entry in entries}
            except (OSError, ValueError):
                self._listed[folder] = {}
        return self._listed[folder]


def _kind(entry: os.DirEntry) -> str:
    if entry.is_symlink():
        return _LINK
    if entry.is_dir(follow_symlinks=False):
        return _FOLDER
    return _FILE if entry.is_file(follow_symlinks=False) else _ODD


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _is_in(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def check_list(file: Path, root: Path, allow_outside: bool) -> None:
    """UserError where a list that was found in a folder is a link out of it."""
    places = Places(root, allow_outside)
    if not allow_outside and not places.is_within(os.path.realpath(file)):
        raise UserError(f"{file}: this list is a link out of {root}. {ADVICE}")


def pictures_of(pattern: str) -> list[str]:
    """The files that a command is given: the one of just this name, the pictures in a folder and below it, or those that match
    a pattern; folders and what is no regular file are named in the log and left out. UserError where there is none.
    """
    path = os.path.expanduser(pattern)
    if os.path.isdir(path):
        inside = (os.path.join(folder, name) for folder, names in names_below(path).items() for name in names)
        files = [file for file in inside if is_picture(os.path.splitext(file)[1]) and os.path.isfile(file)]
        if not files:
            raise UserError(f"--images={pattern!r}: no picture is in this folder; read are {', '.join(FORMATS)}.")
        return files
    found = [path] if os.path.lexists(path) else sorted(glob.glob(path))
    files = [file for file in found if os.path.isfile(file)]
    for file in found:
        if file not in files:
            logging.warning("passed over: %s is %s.", printable(file), "a folder" if os.path.isdir(file) else "no regular file")
    if not files:
        reason = "only folders match, or no regular files" if found else "no file matches"
        raise UserError(f"--images={pattern!r}: {reason}.")
    return files


def is_picture(suffix: str) -> bool:
    """Whether files with this suffix are pictures that can be read."""
    return suffix.lower() in SUFFIXES


def picture_suffixes(suffixes: Iterable[str]) -> list[str]:
    """Those of files of one name that are pictures: which can be read, or else which are refused when they are read."""
    suffixes = list(suffixes)
    return list(filter(is_picture, suffixes)) or [suffix for suffix in suffixes if suffix.lower() in REFUSED_SUFFIXES]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the data: hidden, or what macOS packs beside each file (._NAME, __MACOSX)."""
    return name == "__MACOSX" or name.startswith(".") and name not in (".", "..")


def names_below(path: str | os.PathLike) -> dict[Path, list[str]]:
    """{folder: names of its files} of a folder and those below it, in order, without hidden ones and what links lead to."""
    found = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found[Path(folder)] = sorted(name for name in names if not is_hidden(name))
    return found


def visible(files: Iterable[Path], root: Path) -> list[Path]:
    """The regular files among those found below the root, in order, without the hidden ones."""
    return sorted(file for file in files if not any(map(is_hidden, file.relative_to(root).parts)) and file.is_file())
