"""Files and folders that are written as a whole or not at all, and are on the disk once they have their name; what is read is
a regular file."""

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid

TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp$")  # what a killed process leaves behind ends so


def at_home(place):
    """A path or name as a user gives it, as a text: ~ is the home folder."""
    return os.path.expanduser(os.fspath(place))


def temporary(path):
    """A name beside `path` that no other process takes, on whichever host."""
    return f"{path}.{uuid.uuid4().hex[:12]}.tmp"


@contextlib.contextmanager
def replacing(path, mode="w", **kwargs):
    """A new file that takes the place of `path` once it is whole: a reader finds the old one or the new one, a crash leaves
    the old one. Makes the folder where there is none; mode and kwargs as those of `open`."""
    path = os.path.abspath(os.fspath(path))
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = temporary(path)
    try:
        with open(part, mode, **kwargs) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(os.path.dirname(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)


def replace_text(path, text):
    """Write a text file as a whole."""
    # Half a character of a generated text must not cost the page.
    with replacing(path, encoding="utf-8", errors="replace") as file:
        file.write(text)


@contextlib.contextmanager
def making(folder):
    """A folder to be filled: it becomes `folder`, new or empty before, once it is whole; otherwise nothing is left of it."""
    folder = os.path.abspath(os.fspath(folder))
    part = temporary(folder)
    os.makedirs(part)
    try:
        yield part
        for place, _, names in os.walk(part):
            for name in names:
                with open(os.path.join(place, name), "rb") as file:
                    os.fsync(file.fileno())
            sync_folder(place)
        os.replace(part, folder)
        sync_folder(os.path.dirname(folder))
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def adding(folder):
    """A folder to be filled, whose files then take their names in `folder`, a new one or one that holds others."""
    folder = os.path.abspath(os.fspath(folder))
    if not os.path.isdir(folder):
        with making(folder) as part:
            yield part
        return
    part = temporary(os.path.join(folder, "files"))
    with making(part) as filled:
        yield filled
    for name in sorted(os.listdir(part)):
        os.replace(os.path.join(part, name), os.path.join(folder, name))
    os.rmdir(part)
    sync_folder(folder)


def read_regular(path, most=None):
    """The bytes of a regular file. Raises OSError for anything else, which could block or never end, and for one of more than
    `most` bytes."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no regular file but a folder, a pipe or a device")
    with open(descriptor, "rb") as file:
        if most is not None and about.st_size > most:
            raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, more than the {most:,} that are read")
        return file.read()


def sync_folder(folder):
    """Have a folder's names on the disk, where the file system can do so."""
    with contextlib.suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def tidy(folder):
    """Remove what processes that were killed have left of files and folders they wrote into `folder`."""
    for name in os.listdir(folder):
        if TEMPORARY.search(name):
            place = os.path.join(folder, name)
            shutil.rmtree(place, ignore_errors=True) if os.path.isdir(place) else os.remove(place)
