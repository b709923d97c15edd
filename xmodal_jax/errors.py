"""The one exception for mistakes a user can make and mend."""


class UserError(Exception):
    """Bad input: one paragraph that says what is wrong, where, and what would be right.

    Entry points print it without a traceback and exit with status 2 (`--debug` keeps the traceback).
    """
