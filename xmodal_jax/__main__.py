"""All entry points behind one command: `xmodal evaluate ...` is `python -m xmodal_jax.evaluate ...`."""

import runpy
import sys

import xmodal_jax
from xmodal_jax import COMMANDS
from xmodal_jax.errors import tell


def main():
    """Run the entry point that the first argument names, as `python -m` does, with the arguments behind it."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(usage())
        return
    if name not in COMMANDS:
        from xmodal_jax.config import unknown  # not before: --help answers at once

        tell(f"{unknown(f'command {name!r}', name, COMMANDS)} See xmodal --help.")
        sys.exit(2)
    del sys.argv[1]
    module, _ = COMMANDS[name]
    runpy.run_module(f"xmodal_jax.{module}", run_name="__main__", alter_sys=True)


def usage():
    """What `xmodal --help` prints."""
    lines = [f"  {name:10} {line}" for name, (_, line) in COMMANDS.items()]
    head = f"{xmodal_jax.__doc__}\n\n    xmodal COMMAND [--NAME=VALUE ...]\n    xmodal COMMAND --help\n\ncommands:"
    return "\n".join([head, *lines])


if __name__ == "__main__":
    main()
