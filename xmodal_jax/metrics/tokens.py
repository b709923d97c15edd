"""Words of a caption as the public caption evaluation counts them.

COCO's caption evaluation (Chen et al. 2015, arXiv:1504.00325) runs the Stanford Penn Treebank tokeniser in Java
(`PTBTokenizer -preserveLines -lowerCase`, CoreNLP 3.4.1) and then drops a list of punctuation marks. Here are that
program's rules as far as captions meet them, found by asking it and written as one regular expression. Three differences
are meant: the public list names brackets by their upper-case names (-LRB-) when all is lower case already, so that
a bracket counts as a word there; here none does. Joiners of no width (of Persian, say) do not end a word, and marks of
every script belong to their letter, where that program knows those of some; texts are NFC.
"""

import functools
import re

from xmodal_jax.spelling import MARKS, spelled

# Abbreviations that keep their full stop; of the second list only with a capital ("Wash.", but "in the wash .").
_ABBREVIATIONS = """jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ave blvd rd ct sq st
bldg ste mt ft mr mrs ms dr drs prof profs sen sens rep reps atty attys lt lieut col gen messrs gov govs adm rev maj sgt
cpl pvt capt pres hon brig comdr pfc spc supt supts det msgr inc cos corp co pty ltd plc bancorp dept bhd assn univ intl
sys mfg natl esq jr sr bros tel ext elec vs alex cie etc est ph.d ph al cf seq ala ariz calif colo conn dak fla ga ind kan
kans ky md mich minn mo mont neb nev okla penn tenn va vt wisc wis wyo"""
_CAPITAL_ABBREVIATIONS = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_NUMBERS = "no nos fig figs art p pp"  # "no. 5", but "he says no ."
# With a capital after "the letter B.", these begin a sentence: the full stop is not the letter's (nor at the text's end).
_STARTERS = """A About According After An As At But Many He Her Here If In It Now One Other Our She So Some Such That The
Their Then There These They This We What When While You"""
# Contractions written without an apostrophe: the first half -> the second.
_MERGED = {"can": "not", "gon": "na", "wan": "na", "got": "ta", "gim": "me", "lem": "me", "'t": "is|was"}

# Joiners, marks of direction, which variant of a sign is meant
_WITHOUT_WIDTH = (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0xFE00, 0xFE10), 0xFEFF)
_CHARACTERS = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u00a0": " ", "\u00ad": "", "€": "$", "£": "#", "¢": " cents "}
    | {"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
    | dict.fromkeys("\u2012\u2013\u2014\u2015", " -- ")
    | dict.fromkeys(_WITHOUT_WIDTH, "")
)
_DROPPED = re.compile(r"['\"`,:;()\[\]{}?!…]|-+|\.+|-[lr][rcs]b-|[\U00010000-\U0010ffff]", re.IGNORECASE)


def _any(words: str) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, words.split()), key=len, reverse=True)) + ")"


_UNMERGED = "|".join(f"{first}(?:{second})" for first, second in _MERGED.items())


def _tokens(letter: str, word: str) -> re.Pattern:
    """letter, word: what matches a letter, and a letter or a digit."""
    end = rf"(?!{word})"
    return re.compile(
        "|".join(
            (
                rf"(?!(?i:{_UNMERGED}){end}){word}+(?=,?\s)",  # nine words in ten: first for speed
                r"(?:https?://|www\.)[^\s\"<>()]*[^\s\"<>().,;:!?']",
                r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+",
                r"</?[A-Za-z][^<>\s]*>",
                r"(?i:-[lr][rcs]b-)",
                *(rf"(?i:(?<!{word}){first}(?=(?:{second})\b))" for first, second in _MERGED.items()),
                rf"(?i:'n'|'(?:n|em|till?|cause){end}|(?<!\w)'\d(?:\d|0s){end})",  # rock 'n' roll, '90s
                rf"(?i:(?:o'clock|ma'am|c'mon|o'er|nor'easter|ol'){end}|y'(?={letter}))",
                rf"(?i:n'ts?|'(?:s|m|d|ll|re|ve)){end}",
                rf"[dljA-HJ-XZ]'{letter}{{2,}}",  # d'oeuvre, O'Hare
                rf"s'mores?{end}|{letter}+(?<=[aeiouAEIOU])'[aeiouA-Z]{letter}*",  # ho'ohu
                rf"(?:{letter}\.)+{letter}{end}(?![-.])|(?:{letter}\.){{2,}}(?:-{word}+)*",  # U.S.A, a.m., U.S.-made
                rf"(?<![\w.])(?:(?i:{_any(_ABBREVIATIONS)})|{_any(_CAPITAL_ABBREVIATIONS)})\.{end}",
                rf"\b(?i:{_any(_BEFORE_NUMBERS)})\.(?=\s*\d)",
                rf"(?<![\w.]){letter}\.{end}(?!\s*$|\s+{_any(_STARTERS)}\b)",  # an initial
                r"(?:(?<![\w-])[-+])?(?:\d+(?:[.,:]\d+)+|\.\d+)|(?<![\w-])[-+]\d+",  # 3.5, 12:43, 1,000, .5, -5
                rf"{word}+?(?=(?i:n'ts?){end})",  # the first half of don't
                r"[A-Z]+&[A-Z]+|[Cc](?:\+\+|\#)|@[A-Za-z]\w+",
                rf"{word}+(?:[-/_]{word}+|(?<={letter})[.!?](?={letter}){word}+)*",  # words; hyphens and slashes stay inside
                r"[!?]+|\*+|_+|-+|\.+|\S",
            )
        )
    )


_TOKEN = _tokens(r"[^\W\d_]", r"[^\W_]")


@functools.cache
def _marked_token() -> re.Pattern:
    """_TOKEN with the marks of all scripts among the letters: slower."""
    return _tokens(rf"(?:[^\W\d_]|[{MARKS}])", rf"(?:[^\W_]|[{MARKS}])")


def caption_tokens(text: str) -> list[str]:
    """The words of a caption: lower case, contractions in two ("do n't", "dog 's"), punctuation dropped.

    Hyphenated words, decimals, times, dates and the usual abbreviations stay whole.
    """
    text = spelled(text.translate(_CHARACTERS)).replace("&amp;", "&")
    found = (_TOKEN if text.isascii() else _marked_token()).findall(text)
    return [token.lower() for token in found if not _DROPPED.fullmatch(token)]
