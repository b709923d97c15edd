"""What a compressed model costs beside the full one, with random weights and a structure that needs no training."""

import dataclasses

import jax

from xmodal_jax.compress import materialise
from xmodal_jax.compress.structure import kept
from xmodal_jax.errors import UserError
from xmodal_jax.systems import compressed, recipe
from xmodal_jax.systems.compression import GIVEN
from xmodal_jax.train import mesh as layout


def measure(config):
    """-> ({figure: value}, [Table]) of a config of configs/compress.py with one of the methods that learn nothing."""
    if not config.get("compress") or config.compress.method not in GIVEN:
        raise UserError(f"--compressed: give --config=configs/compress.py:method=..., one of {', '.join(GIVEN)}.")
    parts = recipe.make(config)
    compression = parts.compression
    with jax.set_mesh(layout.make_mesh({}, jax.local_devices()[:1])):
        key = jax.random.PRNGKey(config.seed)
        before = jax.device_get(jax.jit(lambda: parts.model.init(key, parts.example_batch(1))["params"])())
        structure = jax.device_get(compression.given(before, key))
        made = materialise.Materialised(compression.pair, structure)
        small = dataclasses.replace(parts, model=made.compressed(parts.model), compression=None, materialised=made)
        masked = compression.used({**before, "compress": {"decision": structure}})
        found, table = compressed.compare(parts, small, before, jax.device_get(masked), jax.device_get(made.compact(before)))
    rows = [[written(cell) for cell in row] for row in table.rows]
    return {"kept": float(kept(structure, compression.pair)), **found}, [dataclasses.replace(table, rows=rows)]


def written(cell):
    """A cell as text."""
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:.3g}"
