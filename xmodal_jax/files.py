"""Files that are written as a whole or not at all."""

import contextlib
import os


@contextlib.contextmanager
def replacing(path, mode="w", **kwargs):
    """A new file that takes the place of `path` once it is whole: a reader finds the old one or the new one, a crash leaves
    the old one. Makes the folder where there is none; mode and kwargs as those of `open`."""
    path = os.path.abspath(os.fspath(path))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, mode, **kwargs) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def replace_text(path, text):
    """Write a text file as a whole."""
    # Half a character of a generated text must not cost the page.
    with replacing(path, encoding="utf-8", errors="replace") as file:
        file.write(text)
