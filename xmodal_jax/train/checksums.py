"""Checksums of a checkpoint's files, in a file of its own beside them: `checksums.json`.

    {"sum": CRC-32 of "files" as text, "files": {path below the folder: [bytes, CRC-32], ...}}

CRC-32 finds every flipped bit and every burst of up to 32 bits; of other damage one in 4e9 is missed. It is no protection
against forgery.
"""

import json
import os
import zlib

from xmodal_jax.files import replace_text

FILE = "checksums.json"
BLOCK = 2**22  # bytes that are held at a time
# Of orbax, at the top of a checkpoint, written when it is committed. Nothing in them is used here.
LATER = ("_CHECKPOINT_METADATA", "commit_success.txt", FILE)


class Damaged(Exception):
    """A file is not what was written: proved by its length, its checksum or its form."""


def files_of(folder):
    """Paths of all files below a folder, with / and relative to it, in order, without those of LATER."""
    found = []
    for place, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/") for name in names]
    return sorted(set(found) - set(LATER))


def checksum(path):
    """(bytes, CRC-32) of a file."""
    size = found = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            size, found = size + len(block), zlib.crc32(block, found)
    return size, found


def write(folder):
    """Write the checksums of what lies in `folder` now."""
    files = {name: checksum(os.path.join(folder, name)) for name in files_of(folder)}
    replace_text(os.path.join(folder, FILE), json.dumps({"sum": zlib.crc32(as_text(files)), "files": files}) + "\n")


def digest(folder):
    """One number for the names and contents of all files below a folder, as text; None where there is no such folder."""
    if folder is None or not os.path.isdir(folder):
        return None
    return f"{zlib.crc32(as_text({name: checksum(os.path.join(folder, name)) for name in files_of(folder)})):08x}"


def as_text(files):
    return json.dumps(files, sort_keys=True).encode()


def verify(folder, first=0, stride=1):
    """Whether `folder` carries checksums; every `stride`-th of its files, from `first` on, was read and is right.

    Raises Damaged for one that is not; OSError where one cannot be read, which proves nothing.
    """
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return False
    try:
        found = json.loads(text)
        files = {name: (int(size), int(crc)) for name, (size, crc) in found["files"].items()}
        whole = found["sum"] == zlib.crc32(as_text(files))
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise Damaged(f"{FILE} is not as it was written")
    for name in sorted(files)[first::stride]:
        try:
            now = checksum(os.path.join(folder, name))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Damaged(f"{name} is missing") from None
        if now != files[name]:
            what = f"has {now[0]} bytes instead of {files[name][0]}" if now[0] != files[name][0] else "has another checksum"
            raise Damaged(f"{name} {what}")
    return True
