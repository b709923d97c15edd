"""Accelerators that plans and benchmarks know: what their makers publish per chip."""

import dataclasses

from xmodal_jax.config import choose


@dataclasses.dataclass(frozen=True)
class Chip:
    """hbm: bytes of memory that programs can use; flops: peak bf16 FLOP/s; bandwidth: memory bytes/s; network: interconnect
    bytes/s that one chip sends (half of the published two-way figure). All per chip."""

    hbm: float
    flops: float
    bandwidth: float
    network: float


GIB = 2**30
# cloud.google.com/tpu/docs, system architecture pages; usable memory as the TPU compiler states it where it is less.
TPUS = {
    "v4": Chip(31.25 * GIB, 275e12, 1228e9, 150e9),
    "v5e": Chip(15.75 * GIB, 197e12, 819e9, 100e9),
    "v5p": Chip(95 * GIB, 459e12, 2765e9, 300e9),
    "v6e": Chip(31.25 * GIB, 918e12, 1640e9, 224e9),
    "tpu7x": Chip(189.5 * GIB, 2307e12, 7380e9, 600e9),
}
# Peak dense bf16 FLOP/s by the name that JAX gives a device (data sheets).
PEAK_FLOPS = {
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "V100": 125e12, "TPU v4": 275e12, "TPU v5 lite": 197e12,
    "TPU v5p": 459e12, "TPU v5": 459e12, "TPU v6 lite": 918e12, "TPU7x": 2307e12,
}  # fmt: skip


def tpu(name):
    """The chip of a topology's name ("v5e" of "v5e:16x16"); UserError with the known ones."""
    return choose(TPUS, name, "TPU generation")


def peak_flops(device_kind):
    """Peak bf16 FLOP/s of a device by its kind, None where it is not known. Longer names are looked for first."""
    for name in sorted(PEAK_FLOPS, key=len, reverse=True):
        if name in device_kind:
            return PEAK_FLOPS[name]
    return None
