"""All entry points behind one command: `xmodal evaluate ...` is `python -m xmodal_jax.evaluate ...`."""

import runpy
import sys

import xmodal_jax
from xmodal_jax.errors import tell

COMMANDS = {  # name: (module, what it does)
    "train": ("main", "Train a config, or go on with a run."),
    "evaluate": ("evaluate", "Evaluate a checkpoint of a run."),
    "generate": ("generate", "Caption pictures or answer a question about them."),
    "explain": ("explain", "Draw what an answer rests on, over the picture."),
    "export": ("export", "Write one tower of a run as a folder that PyTorch loads."),
    "search": ("search", "Index a folder of photos, and search it by words."),
    "demo": ("demo", "A web page on which to search a folder of photos."),
    "reproduce": ("reproduce", "Train and compare all cells of a table, beside the published figures."),
    "plan": ("plan", "What a config's training step needs on TPUs that are not here."),
    "bench": ("bench", "Measure a config's speed and memory on what is here."),
}


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
