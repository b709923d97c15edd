"""Interactions: against a model with PyTorch's figures, and who sees whom in each mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from tests.conftest import apply, random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vilt import ViLT
from xmodal_jax.models.backbones.vit import LinearPatches
from xmodal_jax.models.interactions import INTERACTIONS, Cross, DualStream, Experts, Gated, Single

B, T, D, SIDE, V = 2, 5, 12, 3, 20
SIZES = {"width": D, "heads": 3, "layers": 2}


def test_a_single_stream_of_vilts_parts_is_vilt(rng):
    """Whose own figures are PyTorch's (tests/interop)."""
    ids = rng.integers(0, V, (B, T)).astype(np.int32)
    mask = np.arange(T)[None] < np.array([[T], [3]])
    images = rng.normal(size=(B, SIDE * 4, SIDE * 4, 3)).astype(np.float32)
    whole = ViLT(vocabulary=V, positions=T, patch=4, grid=SIDE, pooler=True, **SIZES)
    params = random_params(whole, ids, images)
    expected = apply(whole, "__call__", params, ids, images, mask)
    patches = LinearPatches(width=D, patch=4, grid=(SIDE, SIDE))
    words = BERT(vocabulary=V, positions=T, width=D, layers=0)
    image = apply(
        patches, "__call__", {name: params[name] for name in ("patch_embed", "class_token", "position_table")}, images
    )
    text = apply(words, "__call__", {"embed": params["text_embed"]}, ids, mask)
    own = {"encoder": params["encoder"], "pooler": params["pooler"], "modality": params["kind_table"]}
    fused = apply(Single(**SIZES), "__call__", own, text, image)
    np.testing.assert_allclose(np.concatenate([fused.text, fused.image], 1), expected.x, atol=1e-5)
    np.testing.assert_allclose(fused.pooled, expected.pooled, atol=1e-5)


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("mode", ["both", "prefix", "causal", "sequence"])
def test_who_sees_whom(mode, post_norm, rng):
    """A changed token changes those that may see it, and no other; the last word and the last place are padding."""
    N = 4
    words, places = (rng.normal(size=(1, count, D)).astype(np.float32) for count in (T, N))
    masks = np.arange(T)[None] < T - 1, np.arange(N)[None] < N - 1
    model = Single(post_norm=post_norm, **SIZES)
    encoded = [Encoded(x, mask) for x, mask in zip((words, places), masks, strict=True)]
    params = random_params(model, *encoded)

    @jax.jit
    def run(words, places):
        fused = model.apply({"params": params}, Encoded(words, masks[0]), Encoded(places, masks[1]), mode)
        return jnp.concatenate([fused.text, fused.image], 1)

    plain = run(words, places)
    for changed in range(T + N):
        x = np.concatenate([words, places], 1)
        x[0, changed] += rng.normal(size=D)
        moved = {*np.flatnonzero(np.abs(np.asarray(run(x[:, :T], x[:, T:]) - plain)[0]).max(-1) > 1e-4).tolist()}
        if changed in (T - 1, T + N - 1):
            expected = {changed}
        elif mode == "sequence":  # also what is padding sees
            expected = {*range(changed, T + N)}
        elif changed >= T:
            expected = {*range(T + N)}
        else:
            expected = {*range(T + N if mode == "both" else T)} - ({*range(changed)} if mode == "causal" else set())
        assert moved == expected, changed


def test_rows_may_differ_in_what_they_see(rng):
    """The second row is causal, the first is not: each is what a batch of its mode gives."""
    model, encoded = Single(**SIZES), [Encoded(x, mask_of(x)) for x in rng.normal(size=(2, 2, T, D)).astype(np.float32)]
    params = random_params(model, *encoded)

    def run(mode):
        return apply(model, "__call__", params, *encoded, mode).text

    mixed, both, causal = run(np.array([False, True])), run("both"), run("causal")
    np.testing.assert_allclose(mixed, [both[0], causal[1]], atol=1e-5)
    assert np.abs(both - causal).max() > 0.01


def test_a_modality_alone_goes_through_the_same_stack(rng):
    """As beside another whose tokens are all masked."""
    model, (text, image) = Single(**SIZES), [Encoded(x, mask_of(x)) for x in rng.normal(size=(2, 2, T, D)).astype(np.float32)]
    params = random_params(model, text, image)
    for name, other in (("text", "image"), ("image", "text")):
        given = {"text": text, "image": image}
        given[other] = given[other].replace(mask=np.zeros((2, T), bool))
        expected = getattr(apply(model, "__call__", params, given["text"], given["image"]), name)
        found, again = apply(model, "alone", params, {"text": text, "image": image}[name], name)
        assert again is None
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_class_token_of_the_pair(rng):
    """As if it were the first word, which no padding hides and which is no word in the end."""
    text, image = (Encoded(x, mask_of(x)) for x in rng.normal(size=(2, 2, T, D)).astype(np.float32))
    text = text.replace(mask=np.arange(T)[None] < np.array([[T], [3]]))
    model = Single(class_token=True, kinds=False, **SIZES)
    params = random_params(model, text, image)
    found = apply(model, "__call__", params, text, image)
    first = np.broadcast_to(params["class_token"], (2, 1, D))
    longer = Encoded(np.concatenate([first, text.x], 1), np.pad(text.mask, ((0, 0), (1, 0)), constant_values=True))
    plain = {name: value for name, value in params.items() if name != "class_token"}
    expected = apply(Single(kinds=False, **SIZES), "__call__", plain, longer, image)
    np.testing.assert_allclose(found.text, expected.text[:, 1:], atol=1e-5)
    np.testing.assert_allclose(found.image, expected.image, atol=1e-5)
    np.testing.assert_allclose(found.pooled, expected.pooled, atol=1e-5)


def test_words_that_carry_the_picture(rng):
    """The mean of its real tokens, normalised; nothing at the start."""
    text, image = (Encoded(x, mask_of(x)) for x in rng.normal(size=(2, 2, T, D)).astype(np.float32))
    image = image.replace(mask=np.arange(T)[None] < np.array([[T], [2]]))
    plain, carrying = Single(**SIZES), Single(pictured_words=True, **SIZES)
    own = jax.jit(carrying.init)(jax.random.PRNGKey(0), text, image)["params"]
    assert not own["norm_picture"]["scale"].any()
    params = random_params(carrying, text, image)
    mean = np.stack([image.x[0].mean(0), image.x[1, :2].mean(0)]).astype(np.float64)
    y = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-12)
    y = y * params["norm_picture"]["scale"] + params["norm_picture"]["bias"]
    rest = {name: value for name, value in params.items() if name != "norm_picture"}
    expected = apply(plain, "__call__", rest, text.replace(x=(text.x + y[:, None]).astype(np.float32)), image).text
    np.testing.assert_allclose(apply(carrying, "__call__", params, text, image).text, expected, atol=1e-5)


def test_a_gated_unit(rng):
    t, v = rng.normal(size=(2, 3, D))
    text, image = (Encoded(x[:, None], np.ones((3, 1), bool), np.float32(x)) for x in (t, v))
    model = Gated(width=7)
    params = random_params(model, text, image)
    z = 1 / (1 + np.exp(-np.concatenate([v, t], -1) @ params["gate"]["kernel"]))
    expected = z * np.tanh(v @ params["image"]["kernel"]) + (1 - z) * np.tanh(t @ params["text"]["kernel"])
    np.testing.assert_allclose(apply(model, "__call__", params, text, image).pooled, expected, atol=1e-5)


def test_widths_and_modes_that_do_not_fit_are_named():
    x = np.zeros((1, 2, D), np.float32)
    with pytest.raises(UserError, match="give all three one width"):
        Single(width=16, heads=2, layers=1).init(jax.random.PRNGKey(0), Encoded(x, mask_of(x)), Encoded(x, mask_of(x)))
    with pytest.raises(UserError, match="mode='half'"):
        Single(**SIZES).init(jax.random.PRNGKey(0), Encoded(x, mask_of(x)), Encoded(x, mask_of(x)), "half")


H, L, N = 3, 2, 4


def linear(layer, *shape):
    """PyTorch's linear layers side by side -> kernel [in, *shape], bias [*shape]."""
    layers = layer if isinstance(layer, list) else [layer]
    kernel = np.stack([one.weight.detach().numpy().T for one in layers], 1)
    bias = np.stack([one.bias.detach().numpy() for one in layers])
    return {"kernel": kernel.reshape(len(kernel), *shape), "bias": bias.reshape(shape)}


def norm_of(layer):
    return {"scale": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()}


def attention_of(inner, out, width, crossed=False):
    parts = [inner.query, inner.key, inner.value]
    split = (H, width // H)
    found = {"qkv": linear(parts, 3, *split)}
    if crossed:
        found = {"q": linear(parts[:1], 1, *split), "kv": linear(parts[1:], 2, *split)}
    return found | {"out": linear(out, width)}


def stacked(layers):
    return jax.tree.map(lambda *parts: np.stack(parts), *layers)


def test_two_streams_that_share_their_cross_attention_are_lxmerts(rng):
    torch = pytest.importorskip("torch")
    from transformers import LxmertConfig
    from transformers.models.lxmert.modeling_lxmert import LxmertXLayer

    config = LxmertConfig(hidden_size=D, num_attention_heads=H, intermediate_size=2 * D)
    layers = [LxmertXLayer(config).eval() for _ in range(L)]
    for layer in layers:
        for p in layer.parameters():
            torch.nn.init.normal_(p, std=0.3)

    def params(layer):
        found = {"cross": attention_of(layer.visual_attention.att, layer.visual_attention.output.dense, D, True)}
        found["norm_cross"] = norm_of(layer.visual_attention.output.LayerNorm)
        for ours, theirs in (("text", "lang"), ("image", "visn")):
            own, up, down = (getattr(layer, f"{theirs}_{name}") for name in ("self_att", "inter", "output"))
            found[f"{ours}_attention"] = attention_of(own.self, own.output.dense, D)
            found[f"norm_{ours}_attention"] = norm_of(own.output.LayerNorm)
            found[f"{ours}_mlp"] = {"up": linear(up.dense, 2 * D), "down": linear(down.dense, D)}
            found[f"norm_{ours}_mlp"] = norm_of(down.LayerNorm)
        return found

    words, places, text_mask, image_mask = two_streams(rng, D)
    x, y = torch.tensor(words), torch.tensor(places)
    masks = [torch.where(torch.tensor(mask), 0.0, -1e9)[:, None, None] for mask in (text_mask, image_mask)]
    with torch.no_grad():
        for layer in layers:
            x, y = layer(x, masks[0], y, masks[1])[:2]
    model = DualStream(D, H, L, 2.0, shared=True)
    own = {"streams": stacked([params(layer) for layer in layers]), "pooler": {"kernel": np.eye(D), "bias": np.zeros(D)}}
    fused = apply(model, "__call__", own, Encoded(words, text_mask), Encoded(places, image_mask))
    np.testing.assert_allclose(fused.text[text_mask], x.numpy()[text_mask], atol=1e-4)
    np.testing.assert_allclose(fused.image[image_mask], y.numpy()[image_mask], atol=1e-4)
    np.testing.assert_allclose(fused.pooled, np.tanh(x.numpy()[:, 0]), atol=1e-4)


def two_streams(rng, width):
    words, places = rng.normal(size=(B, T, D)).astype(np.float32), rng.normal(size=(B, N, width)).astype(np.float32)
    return words, places, np.arange(T)[None] < np.array([[T], [3]]), np.arange(N)[None] < np.array([[2], [N]])


def normed(x, p):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * p["scale"] + p["bias"]


def attended(x, context, mask, p):
    """Of one row, head by head."""
    if "qkv" in p:
        kernels, biases = p["qkv"]["kernel"], p["qkv"]["bias"]
    else:
        kernels, biases = None, None
    heads = []
    for h in range(p["out"]["kernel"].shape[0] // (p["q"]["kernel"] if kernels is None else kernels).shape[-1]):
        if kernels is None:
            q = x @ p["q"]["kernel"][:, 0, h] + p["q"]["bias"][0, h]
            k, v = (context @ p["kv"]["kernel"][:, i, h] + p["kv"]["bias"][i, h] for i in (0, 1))
        else:
            q, k, v = (x @ kernels[:, i, h] + biases[i, h] for i in range(3))
        scores = np.where(mask, q @ k.T / np.sqrt(q.shape[-1]), -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(shares / shares.sum(-1, keepdims=True) @ v)
    return np.concatenate(heads, -1) @ p["out"]["kernel"] + p["out"]["bias"]


def mlp(x, p):
    up = x @ p["up"]["kernel"] + p["up"]["bias"]
    return up * (1 + erf(up / np.sqrt(2))) / 2 @ p["down"]["kernel"] + p["down"]["bias"]


def test_vilberts_streams_by_hand(rng):
    """Streams of their own sizes and weights, an MLP behind the cross-attention, the product of both first tokens."""
    words, places, text_mask, image_mask = two_streams(rng, 8)
    settings = {"image_width": 8, "image_heads": 2, "image_mlp_ratio": 1.0, "cross_mlp": True, "pool": "product"}
    model = DualStream(D, H, L, 2.0, **settings)
    given = Encoded(words, text_mask), Encoded(places, image_mask)
    params = random_params(model, *given)
    found = apply(model, "__call__", params, *given)
    params = jax.tree.map(np.float64, params)
    for b in range(B):
        x, y = np.float64(words[b]), np.float64(places[b])
        for number in range(L):
            p = jax.tree.map(lambda leaf, number=number: leaf[number], params["streams"])
            x, y = (
                normed(x + attended(x, y, image_mask[b], p["cross_text"]), p["norm_cross_text"]),
                normed(y + attended(y, x, text_mask[b], p["cross_image"]), p["norm_cross_image"]),
            )
            ends = []
            for name, z, mask in (("text", x, text_mask[b]), ("image", y, image_mask[b])):
                z = normed(z + mlp(z, p[f"{name}_between"]), p[f"norm_{name}_between"])
                z = normed(z + attended(z, z, mask, p[f"{name}_attention"]), p[f"norm_{name}_attention"])
                ends.append(normed(z + mlp(z, p[f"{name}_mlp"]), p[f"norm_{name}_mlp"]))
            x, y = ends
        np.testing.assert_allclose(found.text[b][text_mask[b]], x[text_mask[b]], atol=2e-4)
        np.testing.assert_allclose(found.image[b][image_mask[b]], y[image_mask[b]], atol=2e-4)
        a, c = (np.maximum(z[0] @ params[n]["kernel"] + params[n]["bias"], 0) for z, n in ((x, "pooler"), (y, "pooler_image")))
        np.testing.assert_allclose(found.pooled[b], a * c, atol=1e-3, rtol=1e-3)


def test_cross_attention_is_berts_layer_beside_an_image(rng):
    """Of transformers: self-attention, cross-attention, MLP, each normalised after its sum."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    sizes = {"hidden_size": D, "num_attention_heads": H, "intermediate_size": 2 * D}
    config = BertConfig(**sizes, is_decoder=True, add_cross_attention=True)
    config._attn_implementation = "eager"
    layer = BertLayer(config, layer_idx=0).eval()
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.3)
    words, places, text_mask, image_mask = two_streams(rng, D)
    shown, seen = (torch.where(torch.tensor(mask), 0.0, -1e9)[:, None, None] for mask in (text_mask, image_mask))
    with torch.no_grad():
        expected = layer(torch.tensor(words), shown, encoder_hidden_states=torch.tensor(places), encoder_attention_mask=seen)
    expected = (expected[0] if isinstance(expected, tuple) else expected).numpy()
    own, crossed = layer.attention, layer.crossattention
    params = {"encoder": {"layers": stacked([{
        "attention": attention_of(own.self, own.output.dense, D), "norm_attention": norm_of(own.output.LayerNorm),
        "cross": attention_of(crossed.self, crossed.output.dense, D, True), "norm_cross": norm_of(crossed.output.LayerNorm),
        "up": linear(layer.intermediate.dense, 2 * D), "down": linear(layer.output.dense, D),
        "norm_mlp": norm_of(layer.output.LayerNorm),
    }])}}  # fmt: skip
    model = Cross(D, H, 1, 2.0)
    fused = apply(model, "__call__", params, Encoded(words, text_mask), Encoded(places, image_mask))
    np.testing.assert_allclose(fused.text[text_mask], expected[text_mask], atol=1e-4)
    np.testing.assert_array_equal(fused.image, places)
    np.testing.assert_array_equal(fused.pooled, fused.text[:, 0])
    changed = words.copy()
    changed[:, 2] += rng.normal(size=D)
    before, after = (
        apply(model, "__call__", params, Encoded(x, text_mask), Encoded(places, image_mask), "causal").text
        for x in (words, changed)
    )
    assert np.abs(before - after)[:, :2].max() == 0 and np.abs(before - after)[:, 2].max() > 1e-3


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Cross(16, 2, 1), "give both one width"),
        (DualStream(16, 2, 1), "streams 16 and 16 wide cannot take words 12"),
        (DualStream(D, 2, 1, image_width=16), "streams 12 and 16 wide"),
        (DualStream(D, 2, 1, image_heads=3, shared=True), "are of one size"),
        (DualStream(D, 2, 1, pool="sum"), "pool='sum'"),
    ],
)
def test_streams_that_do_not_fit_are_named(model, told):
    x = np.zeros((1, 2, D), np.float32)
    with pytest.raises(UserError, match=told):
        jax.eval_shape(lambda: model.init(jax.random.PRNGKey(0), Encoded(x, mask_of(x)), Encoded(x, mask_of(x))))


def test_experts_by_hand(rng):
    """Alone by its own experts in all layers, and again by those of the pair in the last one; together by these."""
    words, places, text_mask, image_mask = two_streams(rng, D)
    model = Experts(D, H, 3, joint=1, mlp_ratio=2.0)
    given = Encoded(words, text_mask), Encoded(places, image_mask)
    params = random_params(model, *given)
    fused = jax.jit(lambda p: model.apply({"params": p}, *given))(params)
    alone = [
        jax.jit(lambda p, e=e, n=n: model.apply({"params": p}, e, n, method="alone"))(params)
        for n, e in zip(("text", "image"), given, strict=True)
    ]
    p = jax.tree.map(np.float64, params)
    layers = [jax.tree.map(lambda leaf, i=i: leaf[i], p["lower"]) for i in (0, 1)] + [
        jax.tree.map(lambda leaf: leaf[0], p["upper"])
    ]

    def through(x, mask, experts, joint=False):
        for number, layer in enumerate(layers):
            y = normed(x, layer["norm_attention"])
            x = x + layer["scale_attention"] * attended(y, y, mask, layer["attention"])
            kinds = ["joint"] * len(x) if number == 2 and (joint or len({*experts}) == 2) else experts
            x = x + layer["scale_mlp"] * np.stack(
                [mlp(normed(token, layer[f"norm_{kind}"]), layer[kind]) for token, kind in zip(x, kinds, strict=True)]
            )
        return normed(x, p["norm"])

    for b in range(B):
        x, y = words[b] + p["modality"][0], places[b] + p["modality"][1]
        both = through(np.concatenate([x, y]), np.r_[text_mask[b], image_mask[b]], ["text"] * T + ["image"] * N)
        np.testing.assert_allclose(fused.text[b][text_mask[b]], both[:T][text_mask[b]], atol=2e-4)
        np.testing.assert_allclose(fused.image[b][image_mask[b]], both[T:][image_mask[b]], atol=2e-4)
        np.testing.assert_allclose(fused.pooled[b], np.tanh(both[0] @ p["pooler"]["kernel"] + p["pooler"]["bias"]), atol=2e-4)
        for found, z, mask, kind in ((alone[0], x, text_mask[b], "text"), (alone[1], y, image_mask[b], "image")):
            np.testing.assert_allclose(found[0][b][mask], through(z, mask, [kind] * len(z))[mask], atol=2e-4)
            again = through(z, mask, [kind] * len(z), joint=True)
            np.testing.assert_allclose(found[1][b][mask], again[mask], atol=2e-4)


RECOMPUTED = sorted(kind for kind, module in INTERACTIONS.items() if hasattr(module, "remat"))


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k == "dual_stream")) for k in RECOMPUTED])
def test_recomputing_changes_no_gradient(kind, rng):
    given = [Encoded(x, mask_of(x)) for x in (rng.normal(size=(1, n, D)).astype(np.float32) for n in (3, 2))]
    made = [INTERACTIONS[kind](width=D, heads=H, layers=2, remat=remat) for remat in ("none", "full")]
    params = random_params(made[0], *given)

    def loss(model, params):
        fused = model.apply({"params": params}, *given, train=True)
        return (fused.text**2).sum() + (fused.image[:, 0] ** 3).sum()

    plain, again = (jax.jit(jax.grad(lambda p, m=model: loss(m, p)))(params) for model in made)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), plain, again)
