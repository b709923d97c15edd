"""FLAVA against the original in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, close, randomise, torch, transformers
from tests.interop.test_clip import channels_first, pictures
from xmodal_jax.interop.pretrained import load_pretrained

SIZES = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)


def config():
    return transformers.FlavaConfig(
        image_config=dict(hidden_size=16, image_size=24, patch_size=8, **SIZES),
        text_config=dict(hidden_size=12, vocab_size=30, max_position_embeddings=11, **SIZES),
        multimodal_config=dict(hidden_size=8, **SIZES), projection_dim=6,
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [pytest.param(False, marks=pytest.mark.slow), True])
def test_flava_equals_the_original(tmp_path, rng, hidden):
    """With padding, kinds and hidden patches, and without."""
    model = randomise(transformers.FlavaModel(config()), rng)
    x, ids, mask, types, masked = pictures(rng), rng.integers(1, 30, (3, 9)), None, None, None
    if hidden:
        mask, types = np.arange(9)[None] < np.array([[9], [4], [2]]), rng.integers(0, 2, (3, 9))
        masked = rng.random((3, 3, 3)) < 0.4

    def theirs(model):
        more = {} if not hidden else {
            "attention_mask": torch.tensor(mask).long(), "token_type_ids": torch.tensor(types),
            "bool_masked_pos": torch.tensor(masked),
        }  # fmt: skip
        out = model(input_ids=torch.tensor(ids), pixel_values=channels_first(x), **more)
        found = {"image": out.image_embeddings, "text": out.text_embeddings, "pair": out.multimodal_embeddings}
        for name in ("image", "text", "multimodal"):
            found[f"{name} pooled"] = getattr(out, f"{name}_output").pooler_output
        vectors = (model.image_projection, out.image_embeddings), (model.text_projection, out.text_embeddings)
        return found | {f"{n} vector": p(e[:, 0]) for n, (p, e) in zip(("image", "text"), vectors, strict=True)}

    def ours(module, variables):
        out = module.apply(variables, x, ids, mask, types, masked)
        return {
            "image": out.image.x, "text": out.text.x, "pair": out.pair.x, "image pooled": out.image.pooled,
            "text pooled": out.text.pooled, "multimodal pooled": out.pair.pooled, "image vector": out.image_vector,
            "text vector": out.text_vector,
        }  # fmt: skip

    check_family(tmp_path, model, theirs, ours, rng)


def test_heads_of_pretraining_are_left_out(call, tmp_path, rng):
    """Of the checkpoints that are handed out; and another image size."""
    model = randomise(transformers.FlavaForPreTraining(config()), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, image_size=40)
    x, ids = pictures(rng, 40), rng.integers(1, 30, (3, 7))
    with torch.no_grad():
        out = model.flava.image_model(channels_first(x), interpolate_pos_encoding=True)
        close(call(module, "__call__", params, x, ids).image.x, out.last_hidden_state, 1e-4, "image")
