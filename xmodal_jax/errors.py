"""The one exception for mistakes a user can make and mend, and how it is told."""

import re
import sys
import textwrap

# What a terminal obeys or forges a log: controls, separators of lines, marks that turn the order of writing, half characters.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """Bad input: one paragraph that says what is wrong, where, and what would be right.

    Entry points print it without a traceback and exit with status 2 (`--traceback` keeps the traceback).
    """

    def __str__(self):
        return printable(super().__str__(), keep="\n\t")


def printable(text, keep=""):
    """A text from outside as a log and a terminal can take it: control characters, but those to `keep`, and bytes that are no
    text are escaped."""

    def escaped(found):
        code = ord(found[0])
        code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # a byte of a file name that is not UTF-8
        return found[0] if found[0] in keep else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _CONTROLS.sub(escaped, str(text))


def tell(paragraph):
    """Print what a user did wrong on stderr, apart from what stands there."""
    print(
        "\n" + textwrap.fill(f"Error: {paragraph}", 110, break_long_words=False, break_on_hyphens=False),
        file=sys.stderr,
        flush=True,
    )
