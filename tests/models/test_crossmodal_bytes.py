"""The crossmodal byte language model (claims 1-4, 8-10)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models import MODELS, CrossmodalBytes
from xmodal_jax.models.crossmodal_bytes import over_groups
from xmodal_jax.models.reducers import REDUCERS
from xmodal_jax.models.verbs import Verbs, offered, offers
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.train.gradient import loss_and_gradient

TINY = {
    "width": 8,
    "heads": 2,
    "text_layers": 1,
    "second_layers": 1,
    "layers": 1,
    "decoder_layers": 1,
    "slots": 3,
    "shared_width": 4,
}
VARIANTS = {
    "raw": ({"group": 48, "grid": 4}, 768),
    "conv": ({"group": 48, "grid": 4, "stem": "conv", "width": 16, "second_width": 32}, 768),
    "table": ({"group": 48, "grid": 4, "table_width": 2}, 768),
    "file": ({"second": "file", "stride": 8}, 64),
    "file slots": ({"second": "file", "stride": 8, "reducer": "slots"}, 64),
    "audio": ({"second": "audio", "group": 16, "grid": 0, "table_width": 4}, 64),
    "series": ({"second": "series", "group": 16, "grid": 0}, 64),
    "window": ({"group": 48, "grid": 4, "text_window": 4}, 768),
    "narrow": ({"group": 48, "grid": 4, "second_width": 4}, 768),
    "bfloat16": ({"group": 48, "grid": 4, "dtype": "bfloat16"}, 768),
    "ume": ({"group": 48, "grid": 4, "fuse_by": "ume"}, 768),
    "grounded": ({"group": 48, "grid": 4, "grounded": True, "association_heads": 2}, 768),
    "none": ({"group": 48, "grid": 4}, 0),
    **{f"reducer {name}": ({"group": 48, "grid": 4, "reducer": name}, 768) for name in REDUCERS},
}


@pytest.fixture(scope="module")
def out(tiny, call):
    """The tiny model's verbs on its batch -> dictionary."""
    model, params, batch = tiny
    second = call(model, "encode_image", params, batch["second"], batch["second_length"])
    text = call(model, "encode_text", params, batch["text"], batch["segments"])
    fused = call(model, "fuse", params, text, second)
    logits, _ = call(model, "decode", params, batch["inputs"], fused)
    return {"second": second, "text": text, "fused": fused, "logits": logits}


def whole(call, model, params, batch):
    """Everything from bytes to logits."""
    return call(model, "__call__", params, batch)


def close(one, other, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=tolerance, atol=tolerance)


def test_all_verbs_are_offered_and_shaped(tiny, out):
    model, _, batch = tiny
    rows, length = batch["text"].shape
    assert MODELS["crossmodal_bytes"] is CrossmodalBytes and offered(model) == ("encode_image", "encode_text", "fuse", "decode")
    assert out["text"].x.shape == (rows, length, 16) and out["second"].x.shape == (rows, 3, 16)
    assert out["fused"].x.shape == (rows, length + 3, 16) and out["fused"].mask.shape == (rows, length + 3)
    assert out["logits"].shape == (*batch["inputs"].shape, 384) and out["logits"].dtype == jnp.float32
    for tokens in (out["text"], out["second"]):
        close(np.linalg.norm(tokens.pooled, axis=-1), 1, 1e-3)


def test_claims_4_and_8_the_association_of_every_text_token_sums_to_one_over_the_groups(tiny, out):
    association = over_groups(out["fused"].association, out["second"].reduced.assignment)
    assert association.shape == (4, tiny[2]["text"].shape[1], 16) and (np.asarray(association) >= 0).all()
    close(np.asarray(association).sum(-1), 1)
    close(association, np.einsum("btk,bkn->btn", out["fused"].association, out["second"].reduced.assignment))


def test_claim_4_association_is_its_closed_form(tiny, out, call):
    model, params, _ = tiny
    told, seen = np.split(np.asarray(out["fused"].x, np.float64), [out["text"].x.shape[1]], axis=1)
    own = {name: np.asarray(params["associate"][name]["kernel"], np.float64) for name in ("q", "k", "v")}
    text = np.asarray(np.random.default_rng().normal(size=told.shape), np.float32)
    bound = model.bind({"params": params})
    y, association, _ = bound.associate(text, out["text"].mask, seen.astype(np.float32), out["second"].mask)
    scores = (text @ own["q"]) @ np.swapaxes(seen @ own["k"], 1, 2) / np.sqrt(16)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    close(association, expected, 1e-4)
    close(y, text + expected @ seen @ own["v"], 1e-3)


def test_without_a_second_modality_there_is_no_association_and_the_bytes_do_not_matter(tiny, call, rng):
    model, params, batch = tiny
    absent = batch | {"second_length": np.array([0, 768, 0, 768], np.int32)}
    other = absent | {"second": rng.integers(0, 256, batch["second"].shape).astype(np.uint8)}
    one, two = (whole(call, model, params, b)[0] for b in (absent, other))
    np.testing.assert_array_equal(np.asarray(one)[[0, 2]], np.asarray(two)[[0, 2]])
    assert not np.allclose(np.asarray(one)[[1, 3]], np.asarray(two)[[1, 3]]), "where there is one, it matters"
    second = call(model, "encode_image", params, absent["second"], absent["second_length"])
    text = call(model, "encode_text", params, batch["text"], batch["segments"])
    fused = call(model, "fuse", params, text, second)
    sums = np.asarray(over_groups(fused.association, second.reduced.assignment)).sum(-1)
    close(sums, np.broadcast_to([[0], [1], [0], [1]], sums.shape))


def test_a_byte_of_the_target_is_seen_only_by_later_ones(tiny, call):
    model, params, batch = tiny
    at = 4
    changed = batch | {"inputs": batch["inputs"].copy()}
    changed["inputs"][:, at] = 200
    one, other = (np.asarray(whole(call, model, params, b)[0]) for b in (batch, changed))
    np.testing.assert_array_equal(one[:, :at], other[:, :at])
    assert all(not np.allclose(one[:, i], other[:, i]) for i in range(at, one.shape[1]))


def test_text_and_picture_both_reach_every_logit(tiny, call):
    model, params, batch = tiny
    base = np.asarray(whole(call, model, params, batch)[0])
    for name in ("text", "second"):
        changed = batch | {name: batch[name].copy()}
        changed[name][:, 1] ^= 3
        other = np.asarray(whole(call, model, params, changed)[0])
        assert (np.abs(base - other).max(-1) > 0).all(), name


def test_rows_do_not_mix(tiny, call):
    model, params, batch = tiny
    base = np.asarray(whole(call, model, params, batch)[0])
    changed = {name: value.copy() for name, value in batch.items()}
    changed["text"][0, 1], changed["second"][0] = 99, 7
    other = np.asarray(whole(call, model, params, changed)[0])
    close(base[1:], other[1:])
    assert not np.allclose(base[0], other[0])


def test_more_text_padding_has_no_influence(tiny, call):
    model, params, batch = tiny
    batch = batch | {name: np.minimum(batch[name], 300) for name in ("text",)}
    batch["text"][:, -1] = 1  # a full text, then the same with pads behind it
    longer = batch | {name: np.pad(batch[name], ((0, 0), (0, 5))) for name in ("text", "segments")}
    close(whole(call, model, params, batch)[0], whole(call, model, params, longer)[0], 1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_runs_and_init_makes_every_parameter(variant, make_batch):
    settings, length = VARIANTS[variant]
    model, batch = CrossmodalBytes(**(TINY | settings)), make_batch(2, length)
    key = jax.random.PRNGKey(0)
    (logits, text, second, scale, *_), variables = jax.eval_shape(lambda: model.init_with_output(key, batch))
    assert logits.shape == (2, 10, 384) and logits.dtype == jnp.float32
    assert text.shape == second.shape == (2, 4) and scale.shape == ()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables)), "parameters stay float32"


@pytest.mark.parametrize("variant", ["raw", pytest.param("file slots", marks=pytest.mark.slow), "grounded"])
def test_init_touches_every_parameter_and_all_receive_gradients(variant, make_batch, make_params):
    settings, length = VARIANTS[variant]
    model, batch = CrossmodalBytes(**(TINY | settings)), make_batch(6, length)
    params = make_params(model, batch)
    readable = {name: one for name, one in OBJECTIVES.items() if set(one.reads) <= set(batch)}
    objectives = {name: {"weight": 1.0} for name, one in readable.items() if all(offers(model, verb) for verb in one.needs)}
    total, _, grads = jax.jit(lambda p: loss_and_gradient(model, objectives, p, batch, jax.random.PRNGKey(0), 1))(params)
    assert np.isfinite(total)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    # a key's bias shifts all scores of a query alike: softmax removes it, here and in every attention
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(grads) if not np.abs(leaf).max()]
    assert not [path for path in still if "'k']['bias" not in path], still
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_wrong_settings_are_refused(make_batch):
    for wrong, told in (({"reducer": "shrink"}, "relation"), ({"stem": "dense"}, "patch")):
        with pytest.raises(UserError, match=told):
            jax.eval_shape(lambda w=wrong: CrossmodalBytes(**w).init(jax.random.PRNGKey(0), make_batch(1, 768)))


def test_verbs_compute_equal_calls_once_and_name_what_is_missing(tiny):
    model, params, batch = tiny
    verbs = Verbs(model, params)

    def shapes():
        one = verbs.encode_text(batch["caption"])
        return one is verbs.encode_text(batch["caption"]), one is verbs.encode_text(batch["text"])

    assert jax.eval_shape(lambda: (jnp.zeros(()), shapes() == (True, False) or 1 / 0)[0]).shape == ()
    close(verbs.scale(), np.exp(min(float(params["log_scale"]), np.log(100))))
    with pytest.raises(UserError, match="no verb 'paint'.*encode_image"):
        verbs.paint(1)
