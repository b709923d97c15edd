"""ViLT against the original in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, close, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop import pretrained, vilt
from xmodal_jax.interop.pretrained import load_pretrained

SIZES = {
    "tiny": dict(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, image_size=24, patch_size=8,
        vocab_size=30, max_position_embeddings=11,
    ),
    "two images": dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=4,
        vocab_size=20, max_position_embeddings=9, modality_type_vocab_size=3, hidden_act="gelu_new", max_image_length=60,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setitem(pretrained.FAMILIES, "vilt", vilt.FAMILY)


@pytest.fixture
def in_order(monkeypatch):
    """The original shuffles the patches of an image; here it takes them as they come, those that are padding at the end."""
    monkeypatch.setattr(torch, "multinomial", lambda weights, count, replacement=False: torch.arange(int(count)) % len(weights))


def inputs(config, rng, pixels, seen, length=7):
    """(ids, types, mask, images, image mask or None) of as many examples as there are rectangles in `seen`, in patches."""
    B, p = len(seen), config.patch_size
    ids, types = rng.integers(0, config.vocab_size, (B, length)), rng.integers(0, 2, (B, length))
    mask = np.arange(length) < rng.integers(1, length + 1, B)[:, None]
    image_mask = np.zeros((B, *pixels), bool)
    for row, (h, w) in enumerate(seen):
        image_mask[row, : h * p, : w * p] = True
    x = rng.normal(size=(B, *pixels, 3)).astype(np.float32)
    return ids, types, mask, x, None if image_mask.all() else image_mask


def channels_first(x):
    return torch.tensor(x.transpose(0, 3, 1, 2).copy())


def both(ids, types, mask, x, image_mask, seen, p, kind=1):
    """(theirs, ours) of `check_family`: of all tokens but the patches that are padding, [tokens of the batch, D]."""
    length = ids.shape[1]

    def picked_of_theirs(states):  # the patches that are seen come first
        return torch.cat([state[: length + 1 + h * w] for state, (h, w) in zip(states, seen, strict=True)])

    grid = np.arange((x.shape[1] // p) * (x.shape[2] // p)).reshape(x.shape[1] // p, -1) + length + 1
    picked = [(b, n) for b, (h, w) in enumerate(seen) for n in (*range(length + 1), *grid[:h, :w].ravel())]
    picked = tuple(np.array(picked).T)

    def theirs(model):
        out = model(
            torch.tensor(ids), torch.tensor(mask).long(), torch.tensor(types), channels_first(x),
            None if image_mask is None else torch.tensor(image_mask).long(), image_token_type_idx=kind,
            output_hidden_states=True,
        )  # fmt: skip
        states = {"last": out.last_hidden_state, **numbered(out.hidden_states[1:])}
        return {"pooled": out.pooler_output} | {name: picked_of_theirs(state) for name, state in states.items()}

    def ours(module, variables):
        out, kept = module.apply(variables, ids, x, mask, image_mask, types, kind, mutable="intermediates")
        states = {"last": out.x, **hidden_states(kept)}
        return {"pooled": out.pooled} | {name: state[picked] for name, state in states.items()}

    return theirs, ours


CASES = {  # (config, pixels, rectangles that are seen)
    "as trained": ("tiny", (24, 24), [(3, 3), (3, 3)]),
    "larger": ("tiny", (40, 56), [(5, 7), (5, 7)]),
    "padded": ("tiny", (40, 32), [(5, 2), (1, 4), (3, 3)]),
    "one patch": ("tiny", (8, 8), [(1, 1)]),
    "second image": ("two images", (24, 12), [(6, 3), (4, 1)]),
}


@pytest.mark.parametrize("case", CASES)
def test_vilt_equals_the_original(tmp_path, rng, in_order, case):
    size, pixels, seen = CASES[case]
    config = transformers.ViltConfig(**SIZES[size])
    model = randomise(transformers.ViltModel(config), rng)
    given, kind = inputs(config, rng, pixels, seen), 2 if case == "second image" else 1
    check_family(tmp_path, model, *both(*given, seen, config.patch_size, kind), rng)


def test_the_order_of_patches_changes_nothing_else(call, tmp_path, rng):
    config = transformers.ViltConfig(**SIZES["tiny"])
    model = randomise(transformers.ViltModel(config), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    ids, types, mask, x, image_mask = inputs(config, rng, (40, 24), [(5, 3), (2, 3)])
    expected = model(
        torch.tensor(ids), torch.tensor(mask).long(), torch.tensor(types), channels_first(x), torch.tensor(image_mask).long()
    )
    found = call(module, "__call__", params, ids, x, mask, image_mask, types)
    close(found.pooled, expected.pooler_output.detach(), 1e-4, "pooled")
    front = ids.shape[1] + 1
    close(found.x[:, :front], expected.last_hidden_state[:, :front].detach(), 1e-4, "text and class token")
    assert np.array_equal(found.mask[:, front:].sum(axis=1), [15, 6])


def test_what_cannot_be_is_said(tmp_path, rng):
    randomise(transformers.ViltModel(transformers.ViltConfig(**SIZES["two images"])), rng).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="load it without image_size"):
        load_pretrained(tmp_path, image_size=32)
    module, params, _ = load_pretrained(tmp_path)
    with pytest.raises(UserError, match="8 x 8 patches.*at most 60"):
        module.apply({"params": params}, np.zeros((1, 2), np.int32), np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(UserError, match="10 tokens.*positions for 9"):
        module.apply({"params": params}, np.zeros((1, 10), np.int32), np.zeros((1, 8, 8, 3), np.float32))
