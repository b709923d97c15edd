"""Sense inventories in JSONL, plain or gzipped, for any language.

One line per lemma: `{"lemma": "bat", "senses": [{"id": "...", "gloss": "...", "synonyms": [...], "hypernyms":
[...]}]}`. Only `lemma`, `senses`, `id` and `gloss` are needed. `english` (the English words of a sense), other fields
and hypernyms given as ids are understood. The lines stay as bytes until a lemma is asked for, so that a hundred
thousand lemmas open in about a second.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from xmodal_jax.data.senses.inventory import Inventory, Sense
from xmodal_jax.data.senses.wordnet import WordNet, wordnet_folder
from xmodal_jax.errors import UserError
from xmodal_jax.files import at_home

_WANTED = '{"lemma": "bat", "senses": [{"id": "bat.1", "gloss": "a flying mammal"}]}'
_LEMMA = re.compile(rb'\s*\{\s*"lemma"\s*:\s*"([^"\\]*)"')  # the usual first key: no need to parse the line for the lemma
_SYNSET_ID = re.compile(r"\d{8}-[a-z]")
_LEAD_ID = re.compile(rb'"id"\s*:\s*"(\d{8}-[a-z])"')
_CACHE = 20_000


class JsonlInventory(Inventory):
    """A JSONL inventory. `check=True` parses every line on opening, so that a bad line is found before training
    begins.
    """

    def __init__(self, path: str | os.PathLike, lang: str = "en", *, check: bool = False, **kwargs):
        super().__init__(lang, **kwargs)
        self.path = Path(path)
        self._rows: dict[str, tuple[int, bytes]] = {}  # lemma -> (line number, the line as in the file)
        self._folded: dict[str, str] = {}
        self._by_id: dict[str, str] | None = None
        self._senses: dict[str, tuple[Sense, ...]] = {}
        for number, line in enumerate(_lines(self.path), 1):
            if line and not line.isspace():
                self._add(number, line)
        if not self._rows:
            raise UserError(f"{self.path}: no lemma in this inventory. One JSON object per line is expected: {_WANTED}")
        if check:
            for lemma in self._rows:
                self._entries(lemma)

    def _add(self, number: int, line: bytes) -> None:
        quick = _LEMMA.match(line)
        if quick and line.rstrip().endswith(b"}"):
            try:
                lemma = quick.group(1).decode("utf-8")
            except UnicodeDecodeError:
                raise UserError(f"{self.path}:{number}: this line is not UTF-8; save the file as UTF-8.") from None
        else:
            lemma = self._parse(number, line).get("lemma")
        if not isinstance(lemma, str) or not lemma.strip():
            raise UserError(f'{self.path}:{number}: this line has no "lemma". Expected: {_WANTED}')
        lemma = lemma.strip().replace("_", " ")
        self._rows[lemma] = (number, line)
        if lemma.lower() != lemma:
            self._folded.setdefault(lemma.lower(), lemma)

    def _parse(self, number: int, line: bytes) -> dict:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{self.path}:{number}: this line is not JSON ({error}). Expected: {_WANTED}") from None
        if not isinstance(row, dict):
            raise UserError(f"{self.path}:{number}: a JSON object is expected on each line: {_WANTED}")
        return row

    def _entries(self, lemma: str) -> list[dict]:
        number, line = self._rows[lemma]
        senses = self._parse(number, line).get("senses")
        good = isinstance(senses, list) and all(
            isinstance(sense, dict) and isinstance(sense.get("id"), (str, int)) and isinstance(sense.get("gloss", ""), str)
            for sense in senses
        )
        if not good:
            raise UserError(
                f'{self.path}:{number}: "senses" of {lemma!r} must be a list of objects with "id" and "gloss", as in {_WANTED}'
            )
        return senses

    def senses(self, lemma: str) -> tuple[Sense, ...]:
        cached = self._senses.get(lemma)
        if cached is None:
            if lemma not in self._rows:
                return ()
            cached = tuple(self._sense(lemma, entry) for entry in self._entries(lemma))
            if len(self._senses) >= _CACHE:
                self._senses.clear()
            self._senses[lemma] = cached
        return cached

    def _sense(self, lemma: str, entry: dict) -> Sense:
        synonyms = _words(entry.get("synonyms"))
        hypernyms, glosses = [], list(_words(entry.get("related_glosses")))
        for word in _words(entry.get("hypernyms")):
            if not _SYNSET_ID.fullmatch(word):
                hypernyms.append(word)
                continue
            above = self._synset(word)
            if above:
                hypernyms += above[0]
                glosses.append(above[1])
        # English words of a foreign sense help to match English glosses; they are no synonyms a caption in `lang`
        # could hold.
        english = _words(entry.get("english"))
        if self.lang == "en":
            synonyms += english
        elif english:
            glosses.append(", ".join(english))
        return Sense(
            id=str(entry["id"]),
            gloss=entry.get("gloss", ""),
            synonyms=tuple(dict.fromkeys(word for word in synonyms if word.lower() != lemma.lower())),
            hypernyms=tuple(dict.fromkeys(hypernyms)),
            hyponyms=_words(entry.get("hyponyms")),
            related_glosses=tuple(glosses),
        )

    def _synset(self, sense_id: str) -> tuple[tuple[str, ...], str] | None:
        """(words, gloss) of the sense with this id, under any of its lemmas; None if the file lacks it."""
        if self._by_id is None:  # built once, without parsing: the ids are found in the bytes
            by_id: dict[str, str] = {}
            for lemma, (_, line) in self._rows.items():
                for match in _LEAD_ID.finditer(line):
                    by_id.setdefault(match.group(1).decode(), lemma)
            self._by_id = by_id
        lemma = self._by_id.get(sense_id)
        if lemma is None:
            return None
        entry = next(entry for entry in self._entries(lemma) if entry["id"] == sense_id)
        return (lemma, *_words(entry.get("synonyms"))), entry.get("gloss", "")

    def lines(self) -> list[bytes]:
        """The lines of the file, in its order, later ones of a lemma in place of earlier ones."""
        return [line.rstrip(b"\r\n") for _, line in self._rows.values()]

    def __contains__(self, lemma: object) -> bool:
        return lemma in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _listed(self, word: str) -> str | None:
        return super()._listed(word) or self._folded.get(word.lower())


def open_inventory(spec: str | os.PathLike, lang: str = "en") -> Inventory:
    """ "wordnet" (an installed one), a folder with WordNet's files, or a .jsonl / .jsonl.gz file."""
    text = at_home(spec)
    if text == "wordnet" and lang != "en":
        raise UserError(
            f"The installed WordNet is English, but the captions are in {lang!r}: give a JSONL inventory for that "
            "language, for example omw_nouns_ko.jsonl.gz."
        )
    if text == "wordnet":
        return WordNet()
    path = Path(text)
    if path.is_dir():
        return WordNet(wordnet_folder(path))
    if path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz")) and path.is_file():
        return JsonlInventory(path, lang)
    what = "there is no such file or folder" if not path.exists() else "this is not a .jsonl or .jsonl.gz file"
    raise UserError(
        f'Sense inventory {text!r}: {what}. Give "wordnet", a folder with WordNet\'s data.noun and index.noun, or a '
        f".jsonl or .jsonl.gz file with lines such as {_WANTED}"
    )


def _lines(path: Path) -> list[bytes]:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise UserError(f"Sense inventory {str(path)!r}: there is no such file.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Sense inventory {str(path)!r} cannot be read ({error}); a .gz file may be truncated.") from None
    return data.split(b"\n")


def _words(value) -> tuple[str, ...]:
    """A JSON value as words: a list, one word, or nothing."""
    if isinstance(value, str):
        value = [value]
    return tuple(str(word).replace("_", " ") for word in value) if isinstance(value, (list, tuple)) else ()
