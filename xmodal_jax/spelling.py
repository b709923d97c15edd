"""One spelling of what looks the same: characters are whole, and composed as Unicode's NFC (Unicode Standard Annex 15)."""

import unicodedata


def well_formed(text: str) -> str:
    """A text without halves of characters: two that belong together become one, a lone one (of a text that was cut) U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def spelled(text: str) -> str:
    """A text as it is learned and read: well formed, NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", well_formed(text))


# What stands on, under or behind its letter (categories Mn, Mc, Me), with the joiners of no width: `\w` leaves them out. To
# stand in a class of `re`; planes without any are passed over.
MARKS = "\u200c\u200d" + "".join(
    chr(i) for i in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(i))[0] == "M"
)


def runs(letter: str) -> str:
    """A regular expression of words of any script: letters, each of which matches `letter`, with their marks."""
    return rf"{letter}+(?:[{MARKS}]+{letter}*)*"
