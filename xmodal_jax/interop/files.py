"""Reading safetensors files tensor by tensor into given memory.

The safetensors library maps whole files, so that a checkpoint counts twice against a machine's memory; here each tensor is read
once, to where it belongs. Format: 8 bytes of header length, little endian; JSON header; data. Nothing that a header says is
believed before it has been checked.
"""

import dataclasses
import json
import math
import os
import stat

import ml_dtypes
import numpy as np

from xmodal_jax.errors import UserError

TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip

POINTER = int.from_bytes(b"version ", "little")  # how a Git LFS pointer begins
INDEX = "model.safetensors.index.json"
MOST = 16 << 20  # bytes of a header or of another JSON file, of which Python makes some ten times as many


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where an array lies: file, first byte, element type, shape."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple

    @property
    def nbytes(self):
        return self.dtype.itemsize * math.prod(self.shape)

    def read(self, memory=None):
        """-> the array, in the first bytes of `memory` (uint8 [at least nbytes]) or in memory of its own."""
        memory = np.empty(self.nbytes, np.uint8) if memory is None else memory[: self.nbytes]
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            view = memoryview(memory)
            while view:
                got = file.readinto(view)
                if not got:
                    raise UserError(f"{self.path} ends early: it is truncated; fetch it again.")
                view = view[got:]
        return memory.view(self.dtype).reshape(self.shape)


def tensors_of(folder):
    """{name: Tensor} of a checkpoint folder with one model.safetensors, or shards and their index.

    Raises UserError where there is none, where there are only pickles, or where a file is broken.
    """
    index = os.path.join(folder, INDEX)
    single = os.path.join(folder, "model.safetensors")
    if os.path.exists(single):
        return header(single)
    if os.path.exists(index):
        return shards(folder, index)
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in os.listdir(folder)):
        raise UserError(
            f"{folder} holds its weights only as a pickle (.bin), which can run any code when it is read. Convert it once "
            "where you trust it: model.save_pretrained(folder) of a current transformers writes safetensors."
        )
    raise UserError(f"{folder} holds no weights: there is no model.safetensors (nor shards with an index).")


def shards(folder, index):
    """{name: Tensor} of all files that an index names; each must be a file of its own folder."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f'{index} has no "weight_map" from names of arrays to files: it is broken; fetch it again.')
    out = {}
    for name in sorted(set(places.values())):
        if os.path.basename(name) != name or "\\" in name or not name.endswith(".safetensors"):
            raise UserError(f"{index} names {name!r}, which is no safetensors file beside it: it is broken, or means harm.")
        if not os.path.exists(os.path.join(folder, name)):
            raise UserError(f"{os.path.join(folder, name)} is missing, though the index names it: fetch the checkpoint again.")
        found = header(os.path.join(folder, name))
        wanted = {array for array, place in places.items() if place == name}
        if twice := sorted(set(found) & set(out)):
            raise UserError(f"{index}: {twice[0]} stands in two files, {name} and {os.path.basename(out[twice[0]].path)}.")
        if lost := sorted(wanted - set(found)):
            raise UserError(f"{index} says that {lost[0]} is in {name}, where it is not: fetch the checkpoint again.")
        out |= found
    return out


def header(path):
    """{name: Tensor} of one file, whose arrays fill it without a gap and without an overlap, as the format demands."""
    try:
        size = size_of_file(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length == POINTER:
                raise ValueError("it is a Git LFS pointer, whose file was not fetched")
            if not 2 <= length <= min(size - 8, MOST):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            found = json.loads(file.read(length), object_pairs_hook=once)
        return placed(path, found, 8 + length, size)
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise UserError(
            f"{path} is not a whole safetensors file ({reason}): it is truncated or broken; fetch it again."
        ) from None


def placed(path, found, start, size):
    """{name: Tensor} of a header, checked. start: of the data; size: of the file."""
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    found.pop("__metadata__", None)
    out, end = {}, start
    for name, about in sorted(found.items(), key=lambda item: whole_numbers(item[1]["data_offsets"], 2)):
        first, last = about["data_offsets"]
        shape = whole_numbers(about["shape"])
        if about["dtype"] not in TYPES:
            raise ValueError(f"{name}: elements of type {about['dtype']!r:.40}, of {', '.join(TYPES)}")
        tensor = Tensor(path, start + first, np.dtype(TYPES[about["dtype"]]), shape)
        if tensor.offset != end or last - first != tensor.nbytes:
            raise ValueError(f"{name}: bytes {first} to {last}, of a {about['dtype']} {list(shape)} from {end - start}")
        out[name], end = tensor, start + last
    if end != size:
        raise ValueError(f"its arrays end at byte {end:,} of {size:,}")
    return out


def whole_numbers(values, count=None):
    """A short list of numbers from zero on, as a tuple."""
    if not isinstance(values, list) or len(values) > 16 or not all(type(v) is int and 0 <= v < 2**60 for v in values):
        raise ValueError(f"{values!r:.60} in the place of shape or offsets")
    if count not in (None, len(values)):
        raise ValueError(f"{values!r:.60} in the place of {count} offsets")
    return tuple(values)


def once(pairs):
    """A JSON object whose names differ."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return out


def read_object(path):
    """The JSON object in a file of at most MOST bytes; a UserError where there is none."""
    try:
        if (size := size_of_file(path)) > MOST:
            raise ValueError(f"{size:,} bytes")
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a JSON object ({str(error)[:200]}); fetch it again.") from error


def size_of_file(path):
    """Bytes of a regular file; a ValueError for a pipe or a device, which would never end."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no regular file")
    return about.st_size
