"""WordNet's own files (`data.noun`, `index.noun`, `noun.exc`, `lexnames`), read straight from an installed WordNet.

The format is wndb(5WN): `index.noun` lists, for a lemma, the byte offsets of its synsets in `data.noun`, most
frequent sense first. Only an offset table of the lemmas is built on opening (a fraction of a second); a synset is
parsed when it is asked for.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

from xmodal_jax.data.senses.inventory import Inventory, Sense
from xmodal_jax.errors import UserError

_INSTALL = (
    "Install it (Debian and Ubuntu: apt-get install wordnet-base; macOS: brew install wordnet; elsewhere: unpack "
    "WNdb-3.0.tar.gz from wordnet.princeton.edu), or pass the folder that holds data.noun and index.noun, or use a "
    "JSONL inventory."
)
_PLACES = (
    "/usr/share/wordnet",
    "/usr/local/share/wordnet/dict",
    "/usr/local/WordNet-3.0/dict",
    "/usr/local/wordnet/dict",
    "/opt/homebrew/opt/wordnet/dict",
    "/usr/local/opt/wordnet/dict",
)
# lexnames(5WN), files 03 to 28 (the nouns): packages often leave the file `lexnames` itself out.
_LEXNAMES = """Tops act animal artifact attribute body cognition communication event feeling food group location motive
object person phenomenon plant possession process quantity relation shape state substance time"""
_NOUN_LEXNAMES = tuple(_LEXNAMES.split())
_EXAMPLES = re.compile(r'[;:]\s*".*$', re.DOTALL)  # the example sentences end a gloss, each in double quotes
_CACHE = 20_000  # parsed lemmas and synsets kept
_GLOSSES = 12  # related glosses kept per sense


def wordnet_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder of WordNet's files: the argument, $WNSEARCHDIR, $WNHOME/dict or a usual place. UserError if there is
    none.
    """
    if folder:
        places = [Path(folder), Path(folder) / "dict"]
    else:
        home = os.environ.get("WNHOME")
        places = [Path(place) for place in (os.environ.get("WNSEARCHDIR"), home and f"{home}/dict", *_PLACES) if place]
    for place in places:
        if (place / "data.noun").is_file() and (place / "index.noun").is_file():
            return place
    raise UserError(f"No WordNet here: data.noun and index.noun were looked for in {', '.join(map(str, places))}. {_INSTALL}")


class WordNet(Inventory):
    """The nouns of an installed WordNet; ids are "<8 digits>-n", as the Open Multilingual Wordnet writes them.

    `hypernym_levels`: how far up `Sense.hypernyms` goes (2: a dog is a "domestic animal" and an "animal").
    """

    def __init__(
        self, folder: str | os.PathLike | None = None, *, hypernym_levels: int = 2, stop: frozenset[str] | None = None
    ):
        self._folder = wordnet_folder(folder)
        self._levels = hypernym_levels
        super().__init__("en", exceptions=_read_exceptions(self._folder / "noun.exc"), stop=stop)
        self._open()

    def _open(self) -> None:
        self._index = _map_file(self._folder / "index.noun")
        self._data = _map_file(self._folder / "data.noun")
        self._lines = _lemma_offsets(self._index)
        self._senses: dict[str, tuple[Sense, ...]] = {}
        self._synsets: dict[int, tuple] = {}

    def __getstate__(self) -> dict:  # memory maps do not travel: a worker process opens the files again
        return {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("_index", "_data", "_lines", "_senses", "_synsets")
        }

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def __contains__(self, lemma: object) -> bool:
        return lemma in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def offsets(self, lemma: str) -> tuple[tuple[int, ...], int]:
        """(byte offsets of the lemma's synsets, most frequent first; how many of them are ordered by counts)."""
        start = self._lines.get(lemma)
        if start is None:
            return (), 0
        fields = self._index[start : self._index.find(b"\n", start)].split()
        try:  # lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt offset [offset...]
            count = int(fields[2])
            return tuple(int(field) for field in fields[-count:]), int(fields[-count - 1])
        except (ValueError, IndexError):
            raise UserError(
                f"{self._folder / 'index.noun'}: byte {start}: this is not a line of WordNet's index format (lemma, "
                f"part of speech, counts, synset offsets). {_INSTALL}"
            ) from None

    def senses(self, lemma: str) -> tuple[Sense, ...]:
        cached = self._senses.get(lemma)
        if cached is None:
            cached = tuple(self._sense(offset, lemma) for offset in self.offsets(lemma)[0])
            _keep(self._senses, lemma, cached)
        return cached

    def lexname(self, sense_id: str) -> str:
        """The lexicographer file of a sense, as "noun.food"."""
        number = self._synset(int(sense_id.split("-")[0]))[0]
        path = self._folder / "lexnames"
        if path.is_file():
            for line in path.read_text("utf-8").splitlines():
                fields = line.split()
                if len(fields) > 1 and int(fields[0]) == number:
                    return fields[1]
        return f"noun.{_NOUN_LEXNAMES[number - 3]}" if 3 <= number < 3 + len(_NOUN_LEXNAMES) else "noun.other"

    def _sense(self, offset: int, lemma: str) -> Sense:
        _, words, up, down, gloss = self._synset(offset)
        above, level = [], list(up)
        for _ in range(self._levels):
            above += level
            level = [higher for lower in level for higher in self._synset(lower)[2]]
        above = list(dict.fromkeys(above))
        return Sense(
            id=f"{offset:08d}-n",
            gloss=gloss,
            synonyms=tuple(word for word in words if word.lower() != lemma.lower()),
            hypernyms=tuple(dict.fromkeys(word for other in above for word in self._synset(other)[1])),
            hyponyms=tuple(dict.fromkeys(word for other in down for word in self._synset(other)[1])),
            related_glosses=tuple(self._synset(other)[4] for other in (*up, *down)[:_GLOSSES]),
        )

    def _synset(self, offset: int) -> tuple[int, tuple[str, ...], tuple[int, ...], tuple[int, ...], str]:
        """(lexicographer file, words, offsets of hypernyms, offsets of hyponyms, gloss) of the synset at a byte
        offset.
        """
        found = self._synsets.get(offset)
        if found is None:
            found = self._parse(offset)
            _keep(self._synsets, offset, found)
        return found

    def _parse(self, offset: int) -> tuple[int, tuple[str, ...], tuple[int, ...], tuple[int, ...], str]:
        # synset_offset lex_filenum ss_type w_cnt(hex) word lex_id [word lex_id...] p_cnt [symbol offset pos
        # source/target...] | gloss
        line = self._data[offset : self._data.find(b"\n", offset)].decode("utf-8", "replace")
        body, _, gloss = line.partition("|")
        fields = body.split()
        try:
            if int(fields[0]) != offset:
                raise ValueError
            count = int(fields[3], 16)
            words = tuple(field.replace("_", " ") for field in fields[4 : 4 + 2 * count : 2])
            at = 4 + 2 * count
            pointers = [
                (fields[at + 1 + 4 * i], int(fields[at + 2 + 4 * i]), fields[at + 3 + 4 * i]) for i in range(int(fields[at]))
            ]
            lex = int(fields[1])
        except (ValueError, IndexError):
            raise UserError(
                f"{self._folder / 'data.noun'}: byte {offset}: no synset begins here, so data.noun and index.noun are "
                f"not of one WordNet version (or a checkout changed the line ends). {_INSTALL}"
            ) from None
        up = tuple(other for symbol, other, pos in pointers if symbol in ("@", "@i") and pos == "n")
        down = tuple(other for symbol, other, pos in pointers if symbol in ("~", "~i") and pos == "n")
        return lex, words, up, down, definition(gloss)


def definition(gloss: str) -> str:
    """A gloss without its example sentences: 'a turn; "he was at bat"' -> 'a turn'."""
    gloss = gloss.strip()
    return _EXAMPLES.sub("", gloss).strip(" ;") or gloss


def _read_exceptions(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    rows = (line.split() for line in path.read_text("utf-8").splitlines())
    return {row[0].replace("_", " "): row[1].replace("_", " ") for row in rows if len(row) > 1}


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise UserError(f"{path} is empty. {_INSTALL}") from None


def _lemma_offsets(index: mmap.mmap) -> dict[str, int]:
    """Lemma (with spaces) -> byte offset of its line; the licence lines begin with a space."""
    lines, at = {}, 0
    for line in index[:].split(b"\n"):
        if line and line[:1] != b" ":
            lines[line[: line.find(b" ")].decode("utf-8", "replace").replace("_", " ")] = at
        at += len(line) + 1
    return lines


def _keep(cache: dict, key, value) -> None:
    if len(cache) >= _CACHE:
        cache.clear()
    cache[key] = value
