"""Reading safetensors files tensor by tensor into given memory.

The safetensors library maps whole files, so that a checkpoint counts twice against a machine's memory; here each tensor is read
once, to where it belongs. Format: 8 bytes of header length, little endian; JSON header; data.
"""

import dataclasses
import json
import math
import os

import ml_dtypes
import numpy as np

from xmodal_jax.errors import UserError

TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


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
    index = os.path.join(folder, "model.safetensors.index.json")
    single = os.path.join(folder, "model.safetensors")
    if os.path.exists(single):
        names = ["model.safetensors"]
    elif os.path.exists(index):
        with open(index, encoding="utf-8") as file:
            names = sorted(set(json.load(file)["weight_map"].values()))
    elif any(name.endswith((".bin", ".pt", ".pth")) for name in os.listdir(folder)):
        raise UserError(
            f"{folder} holds its weights only as a pickle (.bin), which can run any code when it is read. Convert it once "
            "where you trust it: model.save_pretrained(folder) of a current transformers writes safetensors."
        )
    else:
        raise UserError(f"{folder} holds no weights: there is no model.safetensors (nor shards with an index).")
    out = {}
    for name in names:
        out |= header(os.path.join(folder, name))
    return out


def header(path):
    """{name: Tensor} of one file."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if length <= os.path.getsize(path) else None
            end = os.path.getsize(path) - 8 - length
        found.pop("__metadata__", None)
        out = {}
        for name, tensor in found.items():
            first, last = tensor["data_offsets"]
            dtype, shape = np.dtype(TYPES[tensor["dtype"]]), tuple(tensor["shape"])
            if last > end or last - first != dtype.itemsize * math.prod(shape):
                raise ValueError(name)
            out[name] = Tensor(path, 8 + length + first, dtype, shape)
        return out
    except FileNotFoundError:
        raise UserError(f"{path} is missing, though the index names it: fetch the checkpoint again.") from None
    except (AttributeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): it is truncated or broken; fetch it again."
        ) from None
