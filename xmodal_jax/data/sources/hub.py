"""Data sets of a hub that are installed here, by name: the prepared arrow files, or the parquet files as downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xmodal_jax.data.sources.columns import SUFFIXES, Parquet
from xmodal_jax.data.sources.places import Places, given_path
from xmodal_jax.errors import UserError

_INSTALL = (
    "Install it once, where there is a network: datasets.load_dataset({name!r}), or hf download --repo-type=dataset {name}."
)


class Hub(Parquet):
    """name: of a data set in the cache of `datasets` or of the hub ("ORG/NAME", or "ORG/NAME:CONFIG"); nothing is downloaded
    and no code of it is run. path: the cache (default $HF_DATASETS_CACHE, then $HF_HUB_CACHE, then those in $HF_HOME). The rest
    as in `Parquet`.
    """

    def __init__(self, *, name: str, path: str | os.PathLike | None = None, **rest):
        super().__init__(path=installed(name, path), **rest)
        # Prepared tables may name pictures that were downloaded to another folder of the cache.
        self._places = Places(given_path(path) if path else home(), rest.get("allow_outside", False))
        self.name = name.rpartition("/")[2]


def home() -> Path:
    """The folder of both caches."""
    return given_path(os.environ.get("HF_HOME") or "~/.cache/huggingface")


def caches(path: str | os.PathLike | None = None) -> list[Path]:
    """Folders in which data sets may be installed."""
    if path:
        given = given_path(path)
        return [given, given / "datasets", given / "hub"]
    places = (os.environ.get("HF_DATASETS_CACHE") or home() / "datasets", os.environ.get("HF_HUB_CACHE") or home() / "hub")
    return [given_path(place) for place in places]


def installed(name: str, path: str | os.PathLike | None = None) -> Path:
    """The folder of a data set's files; UserError where it is not installed, or not as tables."""
    name, _, config = name.partition(":")
    found = [folder for cache in caches(path) for folder in _children(cache) if _repository(folder.name) == _key(name)]
    others = []
    for folder in found:
        is_snapshot = folder.name.startswith("datasets--")
        versions = _snapshots(folder) if is_snapshot else _prepared(folder, name, config)
        for version in versions:
            tables = [file for suffix in SUFFIXES for file in version.rglob(f"*{suffix}")]
            if any(file.is_file() for file in tables):
                return _of_config(version, config) if is_snapshot else version
            others.append(version)
    if others:
        raise UserError(
            f"{name}: its files in {others[0]} are no tables. Give this folder to the source that reads them: "
            f"data=webdataset,path={others[0]} (.tar), or data=captions,path={others[0]} (pictures with a list)."
        )
    here = ", ".join(sorted({folder.name for cache in caches(path) for folder in _children(cache)})[:20]) or "none"
    raise UserError(
        f"{name}: no such data set is installed in {' or '.join(map(str, caches(path)))} (there: {here}). "
        + _INSTALL.format(name=name)
    )


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def _key(name: str) -> str:
    """A name as it can be compared: caches write ORG/NAME as ORG___NAME or datasets--ORG--NAME, with capitals or without."""
    return re.sub(r"[^a-z0-9/]", "", name.lower())


def _repository(folder: str) -> str:
    for mark, between in (("datasets--", "--"), ("", "___")):
        if folder.startswith(mark) and (mark or between in folder):
            return _key(folder.removeprefix(mark).replace(between, "/", 1))
    return _key(folder)


def _snapshots(folder: Path) -> list[Path]:
    """The revision that main is, then others, the newest first."""
    main = folder / "refs" / "main"
    named = main.read_text().strip() if main.is_file() else ""
    return sorted(_children(folder / "snapshots"), key=lambda one: (one.name != named, -one.stat().st_mtime))


def _prepared(folder: Path, name: str, config: str) -> list[Path]:
    """Folders CONFIG/VERSION/HASH of prepared files, the newest first."""
    configs = [child for child in _children(folder) if list(child.rglob("*.arrow"))]
    chosen = [child for child in configs if _key(child.name) == _key(config)] if config else configs
    if len(chosen) != 1 and configs:
        raise UserError(f"{name}: give one of its configs as {name}:CONFIG; installed: {', '.join(c.name for c in configs)}.")
    found = {file.parent for child in chosen for file in child.rglob("*.arrow")}
    return sorted(found, key=lambda one: -one.stat().st_mtime)


def _of_config(version: Path, config: str) -> Path:
    """The folder of a config in a snapshot, or all of it where none is asked for. UserError where there is no such config."""
    of_config = next((child for child in _children(version) if _key(child.name) == _key(config)), None)
    if of_config is None and config and _key(config) != "default":
        there = ", ".join(child.name for child in _children(version)) or "none"
        raise UserError(f"{version}: there is no config {config!r} in this data set; its folders: {there}.")
    return of_config or version
