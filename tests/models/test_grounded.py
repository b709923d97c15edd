"""A model that sees the second modality through the association of its words alone (claim 4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import TINY, random_batch, random_params
from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.errors import UserError
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.models.crossmodal_bytes import filled

GROUNDED = {**TINY, "grounded": True, "association_heads": 2}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "coverage, pointer and attributes"])
def case(request):
    settings = dict.fromkeys(("coverage", "pointer", "attributes"), request.param)
    model, batch = CrossmodalBytes(**GROUNDED, **settings), random_batch(3, 768)
    batch["text"][:, 2:6] = byte_ids.sentinel(0), 70, 71, byte_ids.sentinel(1)  # a text may end before
    return model, random_params(model, batch), batch


def logits(model, params, second, batch, association=None):
    """From what `encode_image` gave to the logits."""
    text = model.apply({"params": params}, batch["text"], batch["segments"], method="encode_text")
    fused = model.apply({"params": params}, text, second, False, association, method="fuse")
    return model.apply({"params": params}, batch["inputs"], fused, method="decode")[0], fused


def test_nothing_goes_around_the_association(case, call):
    """With A = 0 the gradient of the logits by the picture is exactly 0; with its own it is not."""
    model, params, batch = case
    second = call(model, "encode_image", params, batch["second"], batch["second_length"])
    shape = call(
        model, "fuse", params, call(model, "encode_text", params, batch["text"], batch["segments"]), second
    ).association.shape

    @jax.jit
    def slopes(x):
        def total(x, association):
            changed = second.replace(x=x, reduced=None, names=None, pooled=None, summary=x.mean(1))
            return (logits(model, params, changed, batch, association)[0] ** 2).sum()

        return jax.grad(total)(x, jnp.zeros(shape)), jax.grad(total)(x, None)

    none, own = slopes(second.x)
    assert not np.any(none) and np.abs(own).max() > 1e-4


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def test_association_of_several_heads_is_its_closed_form(case, call):
    """What is shown is the mean of the heads; each takes up its own part; a given one stands in place of all."""
    model, params, batch = case
    second = call(model, "encode_image", params, batch["second"], batch["second_length"])
    text = call(model, "encode_text", params, batch["text"], batch["segments"])
    own, h, z = params["associate"], np.asarray(text.x, np.float64), np.asarray(second.x, np.float64)
    B, T, D = h.shape
    kernels = {name: np.asarray(own[name]["kernel"], np.float64) for name in "qkv"}
    q, k, v = ((x @ kernels[name]).reshape(B, -1, 2, D // 2) for name, x in (("q", h), ("k", z), ("v", z)))
    scores = np.einsum("bthd,bkhd->bhtk", q, k) * (D // 2) ** -0.5
    weights = softmax(scores)
    if model.coverage:
        covers, avoids = (h @ np.float64(own[name]["kernel"]) + np.float64(own[name]["bias"]) for name in ("covers", "avoids"))
        naming = np.asarray(text.mask) / (1 + np.exp(2 - covers[..., 0]))  # [B, T]
        away = np.log1p(np.exp(avoids)) * np.einsum("bt,bhtk->bk", naming, weights / 2)[:, None]  # [B, T, K]
        weights = softmax(scores - away[:, None])

    def found(given):
        return model.apply(
            {"params": params}, text, second, given,
            method=lambda model, text, second, given: model.associate(text.x, text.mask, second.x, second.mask, given),
        )  # fmt: skip

    even = np.full((B, T, z.shape[1]), 1 / z.shape[1], np.float32)
    for given, A in ((None, weights), (even, np.broadcast_to(even[:, None], weights.shape))):
        x, association, taken = found(given)
        np.testing.assert_allclose(association, A.mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(taken, A.mean(1) @ z, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(x, h + np.einsum("bhtk,bkhd->bthd", A, v).reshape(h.shape), rtol=1e-4, atol=1e-4)


def test_the_decoder_is_told_the_gap_that_it_fills(case, call):
    """Written byte by byte the same as at once; told is what the last sentinel's gap takes up, before it the text's mean."""
    model, params, batch = case
    second = call(model, "encode_image", params, batch["second"], batch["second_length"])
    inputs = np.array([[0, 70, byte_ids.sentinel(0), 71, 72, byte_ids.sentinel(1), 73]] * 3, np.int32)
    text = call(model, "encode_text", params, batch["text"], batch["segments"])
    fused = call(model, "fuse", params, text, second)
    whole, _ = call(model, "decode", params, inputs, fused)
    cache, steps = model.apply({"params": params}, 3, 7, method="cache"), []
    for at in (slice(0, 3), *(slice(i, i + 1) for i in range(3, 7))):
        now, cache = call(model, "decode", params, inputs[:, at], fused, cache, at.start)
        steps.append(now)
    np.testing.assert_allclose(np.concatenate(steps, 1), whole, rtol=1e-4, atol=1e-4)
    if not model.pointer:
        return
    np.testing.assert_array_equal(filled(inputs[:1])[0], [-1, -1, 0, 0, 0, 1, 1])

    def found(taken):
        return call(model, "decode", params, inputs, fused.replace(taken=taken))[0]

    asked = np.asarray(fused.x, np.float64) @ np.asarray(params["asked"]["kernel"], np.float64)
    weights = softmax(np.where(np.asarray(fused.mask), asked[..., 0], -1e9))  # of the text's mean
    moved = np.asarray(fused.taken).copy()
    moved[:, 3] += 1 / weights[:, 3, None]
    moved[:, 4] -= 1 / weights[:, 4, None]  # neither gap, and the same mean
    np.testing.assert_allclose(found(moved), whole, rtol=1e-3, atol=1e-3)
    for token, first in ((2, 2), (5, 5)):  # the gap of sentinel 0, which is filled from place 2 on, and that of sentinel 1
        other = np.asarray(fused.taken).copy()
        other[:, token] += 1 / weights[:, token, None]
        other[:, 4] -= 1 / weights[:, 4, None]
        changed = np.abs(found(other) - whole).max(-1) > 0.01
        np.testing.assert_array_equal(changed, [np.arange(7) >= first] * 3)


def test_registers_are_read_beside_the_picture_and_summed_up_alone(case, call):
    """They make its summary; association is with the picture's own vectors, one more or less of it shows in both."""
    settings = {**GROUNDED, "registers": 3}
    model, batch = CrossmodalBytes(**settings), case[2]
    params = random_params(model, batch)
    assert params["register"].shape == (3, model.width)
    second = call(model, "encode_image", params, batch["second"], batch["second_length"])
    plain = call(*(case[0], "encode_image", case[1]), batch["second"], batch["second_length"])
    assert second.x.shape == plain.x.shape and second.mask.shape == plain.mask.shape
    x, mask = model.apply(
        {"params": params}, batch["second"], batch["second_length"], method=lambda m, *given: m.second_bytes(*given)
    )
    told = jnp.concatenate([x, jnp.broadcast_to(params["register"], (len(x), 3, model.width))], 1)
    mask = jnp.concatenate([mask, jnp.ones((len(x), 3), bool)], 1)
    y = model.apply({"params": params}, told, mask[:, None, None], method=lambda m, *given: m.second_tower(*given))[0]
    np.testing.assert_allclose(second.summary, np.asarray(y)[:, -3:].mean(1), rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda p: (call(model, "encode_image", p, batch["second"], batch["second_length"]).x ** 2).sum())(params)
    assert np.abs(slope["register"]).max() > 0, "the picture's vectors read them, too"


def test_without_a_picture_nothing_is_associated(case, call):
    model, params, batch = case
    second = call(model, "encode_image", params, batch["second"], np.zeros_like(batch["second_length"]))
    for given in (None, np.ones((3, batch["text"].shape[1], 3), np.float32) / 3):
        _, fused = logits(model, params, second, batch, given)
        assert not np.any(fused.association) and not np.any(fused.taken)


def test_models_of_before_keep_their_way(call):
    """Their parameters have the same names and shapes, and no head that tells words."""
    model, batch = CrossmodalBytes(**TINY), random_batch(2, 768)
    params = random_params(model, batch)
    assert "from_summary" in params and "to_words" not in params and model.lacking == ("name_words", "name_attributes")
    assert {name: params["associate"][name]["kernel"].shape for name in "qkv"} == dict.fromkeys("qkv", (16, 16))


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"fuse_by": "ume"}, "model.grounded"), ({"association_heads": 3}, "must divide"), ({"attributes": True}, "pointer=True")],
)
def test_settings_that_do_not_go_together_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        CrossmodalBytes(**(GROUNDED | settings)).init(jax.random.PRNGKey(0), random_batch(1, 768))
