"""Words of a caption as the public caption evaluation counts them.

COCO's caption evaluation (Chen et al. 2015, arXiv:1504.00325) runs the Stanford Penn Treebank tokeniser in Java
(`PTBTokenizer -preserveLines -lowerCase`, CoreNLP 3.4.1) and then drops a list of punctuation marks. Here are that
program's rules as far as captions meet them, found by asking it and written as one regular expression. One difference
is meant: the public list names brackets by their upper-case names (-LRB-) when all is lower case already, so that
a bracket counts as a word there; here none does.
"""

import re

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

_CHARACTERS = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u00a0": " ", "\u00ad": "", "€": "$", "£": "#", "¢": " cents "}
    | {"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
    | dict.fromkeys("\u2012\u2013\u2014\u2015", " -- ")
)
_DROPPED = re.compile(r"['\"`,:;()\[\]{}?!…]|-+|\.+|-[lr][rcs]b-|[\U00010000-\U0010ffff\u200d\ufe0f]", re.IGNORECASE)


def _any(words: str) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, words.split()), key=len, reverse=True)) + ")"


_L, _W = r"[^\W\d_]", r"[^\W_]"  # a letter; a letter or a digit
_END = rf"(?!{_W})"
_UNMERGED = "|".join(f"{first}(?:{second})" for first, second in _MERGED.items())
_TOKEN = re.compile(
    "|".join(
        (
            rf"(?!(?i:{_UNMERGED}){_END}){_W}+(?=,?\s)",  # nine words in ten: first for speed
            r"(?:https?://|www\.)[^\s\"<>()]*[^\s\"<>().,;:!?']",
            r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
            r"</?[A-Za-z][^<>\s]*>",
            r"(?i:-[lr][rcs]b-)",
            *(rf"(?i:(?<!{_W}){first}(?=(?:{second})\b))" for first, second in _MERGED.items()),
            rf"(?i:'n'|'(?:n|em|till?|cause){_END}|(?<!\w)'\d(?:\d|0s){_END})",  # rock 'n' roll, '90s
            rf"(?i:(?:o'clock|ma'am|c'mon|o'er|nor'easter|ol'){_END}|y'(?={_L}))",
            rf"(?i:n'ts?|'(?:s|m|d|ll|re|ve)){_END}",
            rf"[dljA-HJ-XZ]'{_L}{{2,}}",  # d'oeuvre, O'Hare
            rf"s'mores?{_END}|{_L}+(?<=[aeiouAEIOU])'[aeiouA-Z]{_L}*",  # ho'ohu
            rf"(?:{_L}\.)+{_L}{_END}(?![-.])|(?:{_L}\.){{2,}}(?:-{_W}+)*",  # U.S.A, a.m., U.S.-made
            rf"(?<![\w.])(?:(?i:{_any(_ABBREVIATIONS)})|{_any(_CAPITAL_ABBREVIATIONS)})\.{_END}",
            rf"\b(?i:{_any(_BEFORE_NUMBERS)})\.(?=\s*\d)",
            rf"(?<![\w.]){_L}\.{_END}(?!\s*$|\s+{_any(_STARTERS)}\b)",  # an initial
            r"(?:(?<![\w-])[-+])?(?:\d+(?:[.,:]\d+)+|\.\d+)|(?<![\w-])[-+]\d+",  # 3.5, 12:43, 1,000, .5, -5
            rf"{_W}+?(?=(?i:n'ts?){_END})",  # the first half of don't
            r"[A-Z]+&[A-Z]+|[Cc](?:\+\+|\#)|@[A-Za-z]\w+",
            rf"{_W}+(?:[-/_]{_W}+|(?<={_L})[.!?](?={_L}){_W}+)*",  # words; hyphens and slashes stay inside
            r"[!?]+|\*+|_+|-+|\.+|\S",
        )
    )
)


def caption_tokens(text: str) -> list[str]:
    """The words of a caption: lower case, contractions in two ("do n't", "dog 's"), punctuation dropped.

    Hyphenated words, decimals, times, dates and the usual abbreviations stay whole.
    """
    text = text.translate(_CHARACTERS).replace("&amp;", "&")
    return [token.lower() for token in _TOKEN.findall(text) if not _DROPPED.fullmatch(token)]
