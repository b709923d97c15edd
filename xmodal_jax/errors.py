"""The one exception for mistakes a user can make and mend, and how it is told."""

import sys
import textwrap


class UserError(Exception):
    """Bad input: one paragraph that says what is wrong, where, and what would be right.

    Entry points print it without a traceback and exit with status 2 (`--traceback` keeps the traceback).
    """


def tell(paragraph):
    """Print what a user did wrong on stderr, apart from what stands there."""
    print(
        "\n" + textwrap.fill(f"Error: {paragraph}", 110, break_long_words=False, break_on_hyphens=False),
        file=sys.stderr,
        flush=True,
    )
