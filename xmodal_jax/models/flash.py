"""Flash attention (Dao et al., 2022) where the platform has it: the scores [N, M] never reach memory, in neither direction.

On TPU this is JAX's splash attention kernel, on NVIDIA GPUs cuDNN's. Of the two TPU kernels that come with JAX, splash takes
less than half of the memory of `flash_attention`: of its softmax it keeps one number a query, not two, and spreads it 8-fold
instead of 128-fold for its gradient.

Letters: B batch, N queries, M keys, H heads, d width of a head, n and m: N and M with the padding that a kernel needs.
"""

import functools
import math

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.models.attend import attend
from xmodal_jax.models.platform import ROWS, platform

KINDS = ("auto", "plain", "flash")
# Scores of a head, N M, from which "auto" is flash. There plain attention, which keeps them for its gradient, is bound by
# memory: 576 MiB for 8 rows of 12 heads on a TPU in bfloat16, where flash takes 103. At a few hundred tokens it is as fast.
LONG = 1024**2
LANES, BLOCK = 128, 512  # TPU: a block of tokens is a multiple of LANES, at most BLOCK
DTYPES = {"tpu": ("bfloat16", "float32"), "gpu": ("bfloat16", "float16")}
WIDEST = {"tpu": 256, "gpu": 128}  # head width


def attention(kind, q, k, v, mask=None, bias=None, scale=None):
    """`attend` by the implementation that `kind` names: "plain", "flash" (UserError where it cannot be) or "auto".

    "auto" is flash where it can be used and there are at least LONG scores a head; the choice is logged once a shape.
    """
    if kind not in KINDS:
        raise UserError(f"attention={kind!r}: must be one of {', '.join(KINDS)}.")
    reason = "asked for" if kind == "plain" else None
    if kind == "auto" and q.shape[-1] != v.shape[-1]:
        reason = "queries and values differ in width"
    elif kind == "auto":
        reason = usable(platform(), q, k, mask, bias)
        if not reason and q.shape[2] * k.shape[2] < LONG:
            reason = f"fewer than {LONG} scores a head"
        if platform() in DTYPES:  # elsewhere there is no choice
            tell(platform(), q.shape, k.shape[2], reason)
    if reason:
        return attend(q, k, v, mask, bias, scale)
    return flash_attend(q, k, v, mask, scale, bias)


@functools.cache
def tell(where, shape, keys, reason):
    """Log a choice, once for the same arguments."""
    chosen = f"plain ({reason})" if reason else "flash"
    logging.info("attention on %s of %s queries to %d keys: %s", where, list(shape), keys, chosen)


def usable(where, q, k, mask=None, bias=None):
    """Why flash attention cannot be used on platform `where` ("tpu", "gpu", "cpu"), or None where it can.

    q [B, H, N, d], k [B, H, M, d]; see `attend` for mask and bias.
    """
    if where not in DTYPES:
        return f"there is no kernel for {where}"
    if bias is not None:
        return "the scores have a bias"
    if mask is not None and (mask.dtype != bool or mask.shape not in [(rows, 1, 1, k.shape[2]) for rows in (1, len(q))]):
        return f"the mask {mask.dtype} {list(mask.shape)} is not one of padded keys, bool [B, 1, 1, {k.shape[2]}]"
    if q.dtype.name not in DTYPES[where] or k.dtype != q.dtype:
        return f"the {where} kernel takes {' or '.join(DTYPES[where])}, not queries of {q.dtype} and keys of {k.dtype}"
    if q.shape[-1] > WIDEST[where] or (where == "gpu" and q.shape[-1] % 8):
        steps = " and a multiple of 8" if where == "gpu" else ""
        return f"the width of a head must be at most {WIDEST[where]}{steps}, not {q.shape[-1]}"
    if not (q.size and k.size):
        return "there are no queries or no keys"
    return None if where != "gpu" else too_old()


def too_old():
    """Why the GPU at hand, if any, is too old for cuDNN's flash attention, or None."""
    if jax.default_backend() != "gpu":  # compiling for one that is not here
        return None
    device = jax.local_devices()[0]
    capability = str(getattr(device, "compute_capability", ""))
    if "cuda" not in device.client.platform_version or float(capability) < 8:
        return f"cuDNN's kernel needs an NVIDIA GPU of compute capability 8.0 (Ampere) or later, not {capability}"
    return None


def flash_attend(q, k, v, mask=None, scale=None, bias=None):
    """What `attend` gives, without the scores in memory; UserError where that cannot be.

    Args:
      q: [B, H, N, d]; k, v: [B, H, M, d]; mask: bool [B or 1, 1, 1, M], True for keys that count, in any places, or None. A
        row without any such key yields zeros.
      scale: factor of the scores, 1 / sqrt d where None.
      bias: of the scores; there must be none.
    Returns:
      [B, H, N, d].
    """
    where = platform()
    reason = usable(where, q, k, mask, bias)
    if reason:
        raise UserError(f"attention=flash cannot be used here: {reason}. attention=auto takes it where it can be used.")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    kept = None if mask is None else jnp.broadcast_to(mask[:, 0, 0], (q.shape[0], k.shape[2]))  # [B, M]
    return over_mesh(functools.partial({"tpu": on_tpu, "gpu": on_gpu}[where], scale=scale), q, k, v, kept)


def over_mesh(kernel, q, k, v, kept):
    """kernel(q, k, v, kept) on every device's own rows and heads: the compiler cannot split a kernel itself.

    Rows lie over the mesh's data and fsdp axes and heads over its tensor axis, each where they divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return kernel(q, k, v, kept)
    rows = ROWS if q.shape[0] % math.prod(mesh.shape[axis] for axis in ROWS) == 0 else None
    heads = "tensor" if q.shape[1] % mesh.shape["tensor"] == 0 else None
    split = P(rows, heads, None, None)
    return jax.shard_map(kernel, in_specs=(split, split, split, P(rows, None)), out_specs=split, check_vma=False)(q, k, v, kept)


def on_tpu(q, k, v, kept, scale, interpret=False):
    """By splash attention, tokens padded to whole blocks. kept: bool [B, M] or None; interpret: run it on CPU, for tests."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash  # not every command needs Pallas

    (batch, heads, queries, _), keys = q.shape, k.shape[2]
    block_q, block_k = block(queries), block(keys)
    n, m = block_q * -(-queries // block_q), block_k * -(-keys // block_k)
    sizes = splash.BlockSizes(
        block_q=block_q, block_kv=block_k, block_q_dkv=block_q, block_kv_dkv=block_k, block_q_dq=block_q, block_kv_dq=block_k
    )
    every = splash.MultiHeadMask([splash.FullMask((n, m))] * heads)
    kernel = splash.make_splash_mha_single_device(every, block_sizes=sizes, interpret=interpret)
    segments = None
    if kept is not None or m > keys:  # queries attend to keys of the same segment, 1
        counted = jnp.ones((batch, keys), jnp.int32) if kept is None else kept.astype(jnp.int32)
        segments = splash.SegmentIds(jnp.ones((batch, n), jnp.int32), pad(counted, m, axis=1))
    y = jax.vmap(kernel)(pad(q * scale, n), pad(k, m), pad(v, m), segments)[:, :, :queries]
    return zero_without_keys(y, kept)


def block(tokens):
    """Tokens of a block on TPU: as few blocks of at most BLOCK as there can be, with as little padding as that allows."""
    return LANES * -(-tokens // (LANES * -(-tokens // BLOCK)))


def on_gpu(q, k, v, kept, scale, implementation="cudnn"):
    """By `jax.nn.dot_product_attention`, tokens padded to even numbers. kept: bool [B, M] or None.

    As a mask, kept would become a bias [B, 1, N, M] whose gradient cuDNN computes too. Instead the keys that count are moved
    to the front, which changes nothing, and cuDNN is told their number. It is told so without padding too: its gradient for
    lengths that are no multiple of its blocks has been NaN otherwise (NVIDIA/cudnn-frontend, issues 160 and 1072).
    """
    queries, lengths = q.shape[2], jnp.full(k.shape[0], k.shape[2], jnp.int32)
    n, m = queries + queries % 2, k.shape[2] + k.shape[2] % 2
    q, k, v = pad(q, n), pad(k, m), pad(v, m)
    if kept is not None:
        kept = pad(kept, m, axis=1)
        lengths, order = kept.sum(1, dtype=jnp.int32), jnp.argsort(~kept, axis=1)
        front = (jnp.arange(m) < lengths[:, None])[:, None, :, None]
        # Zeros elsewhere, and so in their gradient: whatever the kernel writes there does not pass.
        k, v = (jnp.where(front, permute(x, order), 0) for x in (k, v))
    y = jax.nn.dot_product_attention(
        *(jnp.einsum("bhnd->bnhd", x) for x in (q, k, v)), scale=scale, implementation=implementation,
        key_value_seq_lengths=jnp.maximum(lengths, 1),
    )  # fmt: skip
    return zero_without_keys(jnp.einsum("bnhd->bhnd", y)[:, :, :queries], kept)


def pad(x, size, axis=2):
    """x with zeros behind, `size` long along the axis."""
    return jnp.pad(x, [(0, size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)])


@jax.custom_vjp
def permute(x, order):
    """x [B, H, M, d] with its tokens in another order [B, M]; the gradient is a gather as well, not a scatter."""
    return jnp.take_along_axis(x, order[:, None, :, None], axis=2)


permute.defvjp(lambda x, order: (permute(x, order), order), lambda order, dy: (permute(dy, jnp.argsort(order, axis=1)), None))


def zero_without_keys(y, kept):
    """y [B, H, N, d] with zeros in rows whose keys are all padding."""
    return y if kept is None else jnp.where(kept.any(1)[:, None, None, None], y, 0)
