"""What all entry points share: flags, one-paragraph errors, the compilation cache."""

import errno
import logging as stdlib_logging
import os
import sys
import textwrap

import jax
from absl import app, flags, logging

from xmodal_jax.errors import UserError

flags.DEFINE_bool("traceback", False, "Show the traceback of an error that is explained in one paragraph.")


def run(main, usage):
    """`app.run(main)` where a user's mistake ends in one paragraph on stderr and exit status 2.

    Args:
      main: function of no arguments, called after the flags were parsed; usage: text for --help.
    """
    sys.modules["__main__"].__doc__ = usage
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    handler = logging.get_absl_handler()
    handler.setFormatter(None)
    handler.addFilter(lambda record: record.levelno > stdlib_logging.INFO or "orbax" not in record.pathname)

    def start(argv):
        if len(argv) > 1:
            raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --config.NAME=VALUE (see --help).")
        use_compilation_cache()
        main()

    try:
        app.run(start)
    except SystemExit:
        raise
    except BaseException as error:
        paragraph = explain(error)
        if paragraph is None or "--traceback" in sys.argv:
            raise
        print(
            "\n" + textwrap.fill(f"Error: {paragraph}", 110, break_long_words=False, break_on_hyphens=False),
            file=sys.stderr,
        )
        sys.stderr.flush()
        os._exit(2) if jax.process_count() > 1 else sys.exit(2)


def explain(error):
    """The paragraph for an error that a user can mend, or None for one of ours."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error)
    if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or "No space left on device" in text:
        return (
            f"No space is left on the disk ({text.splitlines()[0][:300]}). What was saved before is kept: free some space, or "
            "choose another --workdir, and start the same command again."
        )
    if isinstance(error, OSError) and "failure to load" in text:  # ml_collections, when the config is first looked at
        return "The config file cannot be loaded: " + " ".join(text.split("Attempted", 1)[-1].split())
    if isinstance(error, (AttributeError, KeyError)) and "Did you mean" in text:  # ml_collections, while flags are parsed
        return f"Unknown config key: {text.strip(chr(34) + chr(39)).encode().decode('unicode_escape')}".replace("\n", " ")
    return None


def use_compilation_cache():
    """Compiled programs are kept between runs (JAX_COMPILATION_CACHE_DIR chooses where; empty switches it off)."""
    place = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/xmodal_jax/compiled"))
    if place:
        jax.config.update("jax_compilation_cache_dir", place)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
