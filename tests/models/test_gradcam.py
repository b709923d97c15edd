"""Grad-CAM against PyTorch's gradients and finite differences, and that what it needs of the models costs nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models import Captioner, perturb, transformer
from xmodal_jax.models.backbones import convit, resnet, vgg
from xmodal_jax.models.backbones.convit import ConvViT
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.backbones.resnet import ResNet
from xmodal_jax.models.backbones.vgg import VGG
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.gradcam import features_and_gradient, grad_cam

B, LABELS = 4, 5
CONV = ConvViT(stem=2, widths=(6, 8), depths=(1, 1), layers=2, heads=2)
MODELS = {
    "vit": ViT(width=12, heads=2, layers=3, patch=4, grid=(4, 4), labels=LABELS),
    "convit": CONV,
    "vgg": VGG((4, 0, 6, 0), labels=LABELS, hidden=8),
    "resnet": ResNet(4, (6, 8), (1, 1), labels=LABELS),
}


def pictures(rng, rows=16, columns=16):
    return rng.normal(size=(B, rows, columns, 3)).astype(np.float32)


def score_of(module, x, weights):
    """The weighted sum of a module's logits, or of its pooled vector."""

    def score(variables, mutable):
        out, kept = module.apply(variables, x, mutable=mutable)
        return ((out.pooled if out.logits is None else out.logits) * weights).sum(-1), kept

    return score


def problem(name, rng, **settings):
    """(score, params) of a random model."""
    module, x = MODELS[name].clone(**settings), pictures(rng)
    weights = rng.normal(size=(B, CONV.width if name == "convit" else LABELS)).astype(np.float32)
    params = random_params(module, x)
    params = jax.tree_util.tree_map_with_path(lambda path, v: 0.5 + np.abs(v) if path[-1].key == "variance" else v, params)
    return score_of(module, x, weights), params


# -- against PyTorch


def their_map(score, features):
    """Equations 1 and 2 with PyTorch's gradient; features [B, C, h, w] of its graph -> before the ReLU, [B, h, w]."""
    (gradient,) = torch().autograd.grad(score.sum(), features, retain_graph=True)
    return (gradient.mean((2, 3))[..., None, None] * features).sum(1).detach().numpy()


def torch():
    return pytest.importorskip("torch")


def check_map(ours, theirs):
    """Normalised maps agree to 1e-4 of the largest value before the ReLU: a peak may be small beside what it cut off."""
    ours, positive = np.asarray(ours), np.maximum(theirs, 0)
    peak, size = positive.max((1, 2), keepdims=True), np.abs(theirs).max((1, 2), keepdims=True)
    assert ours.shape == theirs.shape and ours.dtype == np.float32 and size.min() > 0
    assert (np.abs(ours * peak - positive) <= 1e-4 * size).all()
    np.testing.assert_allclose(ours.max((1, 2)), ours.any((1, 2)), atol=1e-6)  # 1, or 0 where nothing is positive


TINY = dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, patch_size=8, num_labels=LABELS)
RELATIVE = dict(use_relative_position_bias=True)
TRANSFORMERS = {  # (family, blocks, grid, further settings, layers; None: the one it chooses)
    "vit": ("ViT", 3, (3, 3), {}, {None: 2, 0: 0, 1: 1, -2: 2}),
    "vit_one_block": ("ViT", 1, (2, 3), {}, {None: 0}),
    "beit_mean": ("Beit", 3, (3, 3), RELATIVE | {"use_mean_pooling": True}, {None: 2, 1: 1, 3: 3}),
    "beit_class": ("Beit", 2, (2, 4), RELATIVE | {"use_mean_pooling": False}, {None: 1, -3: 0}),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_maps_are_those_of_pytorch(tmp_path, rng, name):
    from tests.interop.oracle import randomise, transformers
    from tests.interop.test_vit import channels_first
    from xmodal_jax.interop.pretrained import load_pretrained

    family, blocks, grid, settings, layers = TRANSFORMERS[name]
    size = tuple(8 * side for side in grid)
    config = getattr(transformers, f"{family}Config")(**TINY, **settings, num_hidden_layers=blocks, image_size=size)
    model = randomise(getattr(transformers, f"{family}ForImageClassification")(config), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    x, weights = pictures(rng, *size), rng.normal(size=(B, LABELS)).astype(np.float32)
    out = model(channels_first(x), output_hidden_states=True)
    score = score_of(module, x, weights)
    for layer, number in layers.items():
        states = out.hidden_states[number]  # [B, N, D]
        (gradient,) = torch().autograd.grad((out.logits * torch().tensor(weights)).sum(), states, retain_graph=True)
        alpha = gradient[:, 1:].mean(1, keepdim=True)
        theirs = (alpha * states[:, 1:]).sum(-1).detach().numpy().reshape(B, *grid)
        check_map(jax.jit(lambda p, layer=layer: grad_cam(score, p, (), grid, 1, layer))(params), theirs)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vggs_maps_are_those_of_pytorch(tmp_path, rng, batch_norm):
    torch()
    from safetensors.torch import save_file

    from tests.interop.oracle import randomise
    from tests.interop.test_cnn import TorchVGG, with_statistics
    from tests.interop.test_vit import channels_first
    from xmodal_jax.interop.cnn import VGGConfig
    from xmodal_jax.interop.pretrained import load_pretrained

    config = VGGConfig(channels=(6, 0, 8, 8, 0), batch_norm=batch_norm, hidden_size=12, num_labels=LABELS)
    model = with_statistics(randomise(TorchVGG(config), rng), rng)
    config.save_pretrained(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    module, params, _ = load_pretrained(tmp_path)
    x, weights = pictures(rng, 33, 20), rng.normal(size=(B, LABELS)).astype(np.float32)
    kept = []
    model.features.register_forward_hook(lambda module, inputs, output: kept.append(output))
    _, logits = model(channels_first(x))
    theirs = their_map(logits * torch().tensor(weights), kept[0])
    check_map(jax.jit(lambda p: grad_cam(score_of(module, x, weights), p))(params), theirs)


# -- against differences, and against itself


@pytest.mark.parametrize(("name", "layer"), [("convit", None), ("convit", 1), ("resnet", None), ("vit", 0)])
def test_the_gradient_is_that_of_finite_differences(rng, name, layer):
    score, params = problem(name, rng)
    gradient = np.asarray(jax.jit(lambda p: features_and_gradient(score, p, layer=layer)[1])(params))
    place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    step = min(0.1 / abs(gradient[place]), 0.02)
    given = {
        ("convit", None): lambda nudge: {"features": nudge},
        ("convit", 1): lambda nudge: {"encoder": {"layers": {"hidden": np.stack([nudge, 0 * nudge])}}},
        ("resnet", None): lambda nudge: {"features": nudge},
        ("vit", 0): lambda nudge: {"encoder": {"input": nudge}},
    }[name, layer]
    run = jax.jit(lambda perturbations: score({"params": params, "perturbations": perturbations}, "intermediates")[0])

    def moved(by):
        nudge = np.zeros(gradient.shape, np.float32)
        nudge[place] = by
        return float(run(given(nudge))[place[0]])

    whole, half = ((moved(size) - moved(-size)) / (2 * size) for size in (step, step / 2))
    np.testing.assert_allclose((4 * half - whole) / 3, gradient[place], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(("name", "layer"), [("convit", None), ("convit", -2), ("vit", None)])
@pytest.mark.slow
def test_the_same_map_with_remat_and_under_jit(rng, name, layer):
    seed = int(rng.integers(2**31))
    tokens = int(name == "vit")

    def maps(remat, compiled):
        score, params = problem(name, np.random.default_rng(seed), remat=remat)

        def run(params):
            return grad_cam(score, params, class_tokens=tokens, layer=layer)

        return np.asarray((jax.jit(run) if compiled else run)(shared or params))

    shared = None
    shared = problem(name, np.random.default_rng(seed))[1]
    plain = maps("none", False)
    assert plain.shape == (B, 4, 4)
    for remat, compiled in (("none", True), ("full", False), ("full", True)):
        np.testing.assert_allclose(maps(remat, compiled), plain, atol=1e-4)


def test_the_encoder_of_a_larger_model(rng):
    """Of a captioner: the score of a text; where one reads the encoder itself, the same gradient from above."""
    decoder = GPT2(vocabulary=11, positions=6, width=8, heads=2, layers=1, cross=True)
    model = Captioner(CONV, decoder, latent="none", shared_width=5)
    length = np.full(B, 5, np.int32)
    batch = {"caption": rng.integers(1, 11, (B, 6)).astype(np.int32), "caption_length": length}
    batch["image"] = rng.integers(0, 256, (B, 16, 16, 3)).astype(np.uint8)
    params = random_params(model, batch)

    def score(variables, mutable):
        def told(module):
            return module.decode(batch["caption"], length, module.encode_image(batch["image"])).logits.sum((1, 2))

        return model.apply(variables, mutable=mutable, method=told)

    features, gradient = jax.jit(lambda p: features_and_gradient(score, p, ("image",)))(params)
    assert features.shape == gradient.shape == (B, 4, 4, 8) and np.any(gradient)
    maps = jax.jit(lambda p: grad_cam(score, p, ("image",)))(params)
    raw = np.einsum("bc,bhwc->bhw", np.asarray(gradient).mean((1, 2)), features)
    check_map(maps, raw)
    assert jax.eval_shape(lambda: grad_cam(score, params, ("image",), layer=1)).shape == (B, 4, 4)


def test_bfloat16_features_give_a_float32_map(rng):
    score, params = problem("vit", rng, dtype="bfloat16")
    maps = jax.jit(lambda p: grad_cam(score, p, class_tokens=1))(params)
    assert maps.dtype == jnp.float32 and np.isfinite(maps).all() and maps.max() <= 1


# -- what it must not change


@pytest.mark.parametrize("name", MODELS)
def test_models_are_unchanged_where_nothing_is_perturbed(monkeypatch, rng, name):
    """The same variables, and the same program to the letter, as of models that know no perturbations."""
    module, x = MODELS[name], pictures(rng)

    def init():
        return module.init(jax.random.PRNGKey(0), x)

    def program():
        params = jax.eval_shape(init)["params"]
        return str(jax.make_jaxpr(lambda p: module.apply({"params": p}, x))(params))

    with_them = jax.eval_shape(init), program()
    assert "perturbations" not in with_them[0]
    for used in (transformer, convit, resnet, vgg):
        assert used.perturbed is perturb.perturbed
        monkeypatch.setattr(used, "perturbed", lambda module, name, x: x)
    assert (jax.eval_shape(init), program()) == with_them


def test_zeros_change_nothing_and_are_refused_by_no_one(rng):
    score, params = problem("vit", rng)
    plain, kept = score({"params": params}, "intermediates")
    zeros = jax.tree.map(jnp.zeros_like, kept["intermediates"]["encoder"]["layers"]["hidden"][0])
    assert zeros.shape == (3, B, 17, 12)
    given = {"params": params, "perturbations": {"encoder": {"layers": {"hidden": zeros}}}}
    np.testing.assert_array_equal(score(given, "intermediates")[0], plain)


# -- mistakes


def test_mistakes_are_told(rng):
    vit, params = problem("vit", rng)
    flat, flat_params = problem("vgg", rng)
    for run, told in (
        (lambda: grad_cam(vit, params, class_tokens=1, layer=4), "layer=4.*3 blocks.*-4 to 3"),
        (lambda: grad_cam(vit, params, class_tokens=1, layer=-5), "layer=-5"),
        (lambda: grad_cam(vit, params, class_tokens=1, layer=-1), "gradient is 0.*earlier layer"),
        (lambda: grad_cam(vit, params), "17 tokens.*4 x 4"),
        (lambda: grad_cam(vit, params, grid=(3, 5), class_tokens=1), "3 x 5"),
        (lambda: grad_cam(vit, params, ("image",)), "at image: in the model there is encoder"),
        (lambda: grad_cam(flat, flat_params, layer=1), "no transformer blocks"),
        (lambda: grad_cam(flat, flat_params, grid=(2, 2)), "4 x 4"),
        (lambda: grad_cam(vit, params, ("encoder", "layers")), "neither"),
    ):
        with pytest.raises(UserError, match=told):
            run() if "gradient is 0" in told else jax.eval_shape(run)

    def twice(variables, mutable):
        module, x = MODELS["vit"], pictures(rng)
        return module.apply(variables, mutable=mutable, method=lambda m: m(x).pooled.sum(-1) + m(x[::-1]).pooled.sum(-1))

    with pytest.raises(UserError, match="2 times"):
        jax.eval_shape(lambda: grad_cam(twice, params, class_tokens=1))
