"""What all entry points share: flags, one-paragraph errors, the compilation cache. JAX is loaded when it is needed."""

import errno
import functools
import logging as stdlib_logging
import os
import re
import signal
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from xmodal_jax import malloc, stopping
from xmodal_jax.config import find_config, load_config, unknown
from xmodal_jax.errors import UserError, printable, tell
from xmodal_jax.guide import CONFIG_FLAGS, config_of, guide
from xmodal_jax.joining import is_joined, is_lost, join_processes, leave_others

flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes: found out from Cloud TPU, GKE or SLURM. Not needed where JAX_COORDINATOR_ADDRESS, "
    "JAX_NUM_PROCESSES and JAX_PROCESS_ID are set.",
)
flags.DEFINE_bool("traceback", False, "Show the traceback of an error that is explained in one paragraph.")

# Errors of a path that a user gives: a folder where a file is wanted, no right to write there, too long a name ...
OF_PLACES = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)


def run(main, usage, config=None, words=False):
    """`app.run(main)` where a user's mistake ends in one paragraph on stderr and exit status 2.

    Args:
      main: function, called after the flags were parsed, of no arguments or, with `words`, of those without dashes;
      usage: text for --help; config: the config file where --config is not given.
    """
    if {"--help", "-help", "-h", "--helpshort"} & set(sys.argv):
        try:
            print(guide(usage, with_config(sys.argv, config)))
        except UserError as error:
            tell(str(error))
            sys.exit(2)
        sys.exit(0)
    if "--helpfull" not in sys.argv:
        malloc.restart()
    sys.modules["__main__"].__doc__ = usage
    sys.unraisablehook = functools.partial(unraisable, sys.unraisablehook)
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    handler = logging.get_absl_handler()
    handler.setFormatter(None)
    handler.addFilter(as_printable)
    handler.addFilter(  # of orbax neither chatter nor the tracebacks of its threads: the error itself is raised
        lambda record: "orbax" not in record.pathname or (record.levelno > stdlib_logging.INFO and not record.exc_info)
    )

    def start(argv):
        if len(argv) > 1 and not words:
            raise UserError(f"Unknown argument {argv[1]!r}: settings are given as --config.NAME=VALUE (see --help).")
        if os.environ.get(malloc.SETTING, "keep") != "keep":
            logging.info("allocator: %s (%s=keep leaves it as it is)", malloc.in_use(), malloc.SETTING)
        use_compilation_cache()
        join_processes()
        if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
            logging.info("config: %s", config_flags.get_config_filename(flags.FLAGS["config"]))
        ended = main(*argv[1:])
        leave_others(None)
        if ended is stopping.BROKEN_OFF:
            stopping.leave()

    flags.FLAGS.set_gnu_getopt(words)  # flags may stand behind words
    try:
        app.run(start, flags_parser=functools.partial(parse, config=config))
    except SystemExit:
        leave_others(None)
        raise
    except KeyboardInterrupt:
        if "--traceback" in sys.argv:
            raise
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        stopping.end_by(signal.SIGINT)
    except BaseException as error:
        paragraph = explain(error)
        leave_others(paragraph or f"{type(error).__name__}: {error}"[:300], is_lost(error))
        if paragraph is None or "--traceback" in sys.argv:
            if is_joined():  # JAX would wait for the others at the end of this process
                traceback.print_exc()
                os._exit(1)
            raise
        tell(paragraph)
        # On a full disk, what closes files at the end of a process fails too.
        os._exit(2) if is_joined() or no_space(error) else sys.exit(2)


def unraisable(before, told):
    """Errors of threads that nobody can catch, but for what tensorstore's say of writes that have failed: the error itself is
    raised."""
    if "Event loop is closed" not in str(told.exc_value):
        before(told)


def as_printable(record):
    """A log record without the control characters that names of files and texts bring into it."""
    record.msg, record.args = printable(record.getMessage(), keep="\n\t"), ()
    return True


def parse(argv, config=None):
    """absl's own parser, but for how a mistake is told and where config files are looked for; config: the default one."""
    odd = next((name for name in argv[1:] if re.match(r"--config\.[\w.]*[^\w.=]", name)), None)
    if odd is not None:
        raise UserError(f"{odd}: the names of settings are of letters, digits, _ and dots, as in --config.batch_size=32.")
    try:
        argv = [argv[0], *flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)]
        words = flags.FLAGS(with_config(argv, config) if "config" in flags.FLAGS else argv)
        expand_home()
        return words
    except flags.Error as error:
        raise UserError(f"{error}. Settings are given as --config.NAME=VALUE (see --help).") from None


def expand_home():
    """~/... in the values of flags is the home folder: of --workdir=~/runs the shell leaves it as it is."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, str) and value.startswith("~/"):
            flags.FLAGS[name].value = os.path.expanduser(value)
        elif isinstance(value, list) and any(isinstance(one, str) and one.startswith("~/") for one in value):
            flags.FLAGS[name].value = [os.path.expanduser(one) if isinstance(one, str) else one for one in value]
        elif hasattr(value, "unlock"):
            expand_config(value)


def expand_config(section):
    """The same in the settings of a config."""
    for name, value in list(section.items()):
        if hasattr(value, "items"):
            expand_config(value)
        elif isinstance(value, str) and value.startswith("~/"):
            section[name] = os.path.expanduser(value)


def with_config(argv, default=None):
    """argv with every --config=FILE[:ARGS] and --config FILE[:ARGS] naming the file that `find_config` finds."""
    argv, names = list(argv), CONFIG_FLAGS
    if default is not None and not any(argument.partition("=")[0] in names for argument in argv):
        argv.insert(1, f"--config={default}")
    for i in range(1, len(argv)):
        flag, is_joined, value = argv[i].partition("=")
        if not (flag in names and is_joined):
            flag, value = argv[i - 1], argv[i]
        if flag in names:
            file, colon, arguments = value.partition(":")
            argv[i] = argv[i].removesuffix(value) + find_config(file) + colon + arguments
    return argv


def no_space(error):
    """Whether a disk is full, or a file may not grow further."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return full or any(sign in str(error) for sign in ("No space left on device", "File too large", "Disk quota exceeded"))


def no_memory(error):
    """Whether memory ran out, of the machine or of an accelerator."""
    return isinstance(error, MemoryError) or any(
        sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "bad_alloc", "Out of memory", "Cannot allocate memory")
    )


def explain(error):
    """The paragraph for an error that a user can mend, or None for one of ours."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error)
    if no_space(error):
        return (
            f"No space is left on the disk ({text.splitlines()[0][:300]}). What was saved before is kept: free some space, or "
            "choose another --workdir, and start the same command again."
        )
    if no_memory(error):
        return (
            f"There is not enough memory ({(text or type(error).__name__).splitlines()[0][:300]}). What was saved before is "
            "kept. A smaller config.batch_size, config.accumulate=2 or more, and the config.model.remat of some models need "
            "less."
        )
    if any(os.strerror(number) in text for number in (errno.EIO, errno.EROFS, errno.ESTALE)):  # tensorstore tells no number
        return (
            f"The disk cannot be used now ({text[:300]}). What was saved before is kept: look at the disk, and start the same "
            "command again."
        )
    if isinstance(error, OSError) and error.filename and error.errno in OF_PLACES:
        return f"{printable(os.fspath(error.filename))}: this place cannot be used ({error.strerror})."
    if isinstance(error, SyntaxError):
        return f"The config file cannot be loaded: {text}."
    if isinstance(error, OSError) and "failure to load" in text:  # ml_collections, when the config is first looked at
        return "The config file cannot be loaded: " + " ".join(text.split("Attempted", 1)[-1].split())
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, (AttributeError, KeyError)) and "ml_collections" in str(files[-1:]) and "config_flags" in str(files):
        name = text.strip("'\"").encode().decode("unicode_escape").replace("\n", " ")
        return unknown_key() or f"Unknown config key: {name}"
    return None


def unknown_key():
    """The sentence for the first --config.NAME that the config file does not have, or None."""
    arguments = with_config(sys.argv)
    file = config_of(arguments)
    config = load_config(*file.partition(":")[::2]) if file else None
    for argument in arguments:
        kind, *path = argument.lstrip("-").partition("=")[0].split(".")
        section = config if kind == "config" and argument.startswith("-") else None
        for depth, name in enumerate(path, 1):
            if not hasattr(section, "keys"):
                break
            if name not in section:
                return unknown(f"config key {'.'.join(path[:depth])!r}", name, section)
            section = section[name]
    return None


def use_compilation_cache():
    """Compiled programs are kept between runs (JAX_COMPILATION_CACHE_DIR chooses where; empty switches it off)."""
    import jax

    place = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/xmodal_jax/compiled"))
    if place:
        jax.config.update("jax_compilation_cache_dir", place)
        seconds = os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(seconds))
