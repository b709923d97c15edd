"""What --help prints."""

import ast
import os
import sys
import textwrap

from absl import flags

from xmodal_jax import COMMANDS
from xmodal_jax.config import config_files, explained

CONFIG_FLAGS = ("--config", "-config")
WIDTH = 118  # of what --help prints
ALWAYS = "  --distributed, --traceback, --flagfile=FILE, --helpfull: of every command"
AGAIN = ";\n    repeat this option"  # what absl puts behind the help of a flag that may be given often
MAIN = (
    "total_steps, batch_size, accumulate, optimizer.learning_rate, seed, precision (bfloat16, float32), data.source, "
    "examples.image_size, eval_every, checkpoint_every, keep_checkpoints, log_every, init, mesh.data"
)


def guide(usage, argv):
    """What --help prints, one screen: a command's use and flags; arguments and settings of the config that is given, else the
    config files, their arguments and the main settings; the other commands."""
    own = [flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if flag.name != "config"]
    told = [line_of(f"--{flag.name}", flag.help.partition(AGAIN)[0]) for flag in own]
    file = config_of(argv) if "config" in flags.FLAGS else None
    configs = chosen(*file.partition(":")[::2]) if file else to_choose()
    commands = f"commands (xmodal COMMAND --help):\n{filled(', '.join(COMMANDS))}"
    return "\n\n".join([usage.strip(), "\n".join(["flags:", *told, ALWAYS]), configs, commands])


def line_of(name, told):
    """A name and what it is, on one line or a few."""
    return textwrap.fill(f"{name:22} {told}", WIDTH, initial_indent="  ", subsequent_indent=" " * 25)


def paragraph(text):
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")


def filled(text):
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def chosen(file, given):
    """Arguments and settings of a config file."""
    doc, known, config = explained(file, given)
    head, _, told = doc.partition("\n\nArguments")
    plain = {name: value for name, value in config.items() if not hasattr(value, "keys")}
    lines = [
        paragraph(f"configs/{os.path.basename(file)}: {head.partition(chr(10))[0]}"),
        paragraph(f"arguments, --config=FILE:NAME=VALUE,...{told}"),
        filled("here: " + ", ".join(f"{name}={value}" for name, value in known.items())),
        "settings, --config.NAME=VALUE:",
        filled(", ".join(f"{name}={value}" for name, value in plain.items())),
    ]
    for name in (name for name in config if name not in plain):
        settings = [f"{key}={value}" if not hasattr(value, "keys") else key for key, value in config[name].items()]
        lines.append("  " + textwrap.shorten(f"{name}.: " + ", ".join(settings), WIDTH - 2, placeholder=" ..."))
    return "\n".join(lines)


def to_choose():
    """The config files that come with the library, their arguments, and the main settings of all; nothing of them is run."""
    lines = ["configs of training, --config=FILE:ARGUMENT=VALUE,... (FILE with --help tells all of it):"]
    for name, file in sorted(config_files().items()):
        with open(file, encoding="utf-8") as source:
            tree = ast.parse(source.read())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parse_arg"]
        lines.append(filled(f"{name}: {', '.join(argument.arg for call in calls for argument in call.keywords)}"))
    return "\n".join([*lines, "main settings of training, --config.NAME=VALUE:", filled(MAIN)])


def config_of(argv):
    """The FILE[:ARGS] that --config=FILE or --config FILE names, or None."""
    apart = [value for flag, value in zip(argv, argv[1:], strict=False) if flag in CONFIG_FLAGS]
    joined = [one.partition("=")[2] for one in argv if one.partition("=")[0] in CONFIG_FLAGS and "=" in one]
    return next(iter([*joined, *apart]), None)
