"""Byte embeddings (claim 2): raw pictures against the ViT patch projection, files, text."""

import jax
import numpy as np
import pytest

from xmodal_jax.data.bytes import image_bytes
from xmodal_jax.errors import UserError
from xmodal_jax.models.byte_embedding import ByteGroups, FileBytes, PixelBytes, TextBytes, sincos_1d, sincos_2d
from xmodal_jax.models.crossmodal_bytes import CrossmodalBytes
from xmodal_jax.models.reducers import REDUCERS

WIDTH, PATCH, SIDE = 12, 4, 16
GROUP, GRID = PATCH * PATCH * 3, SIDE // PATCH


@pytest.fixture
def pictures(rng):
    """uint8 [B, H, W, 3] and the same as patch bytes [B, L]."""
    found = rng.integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)
    return found, np.stack([image_bytes(picture, PATCH) for picture in found])


def used(raw):
    return np.full(len(raw), raw.shape[1], np.int32)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.25)])
def test_claim_2_raw_image_bytes_equal_the_vit_patch_projection(pictures, make_params, mean, std):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    images, raw = pictures
    module = ByteGroups(WIDTH, GROUP, GRID, mean=mean, std=std)
    params = make_params(module, raw, used(raw))
    x, mask = module.apply({"params": params}, raw, used(raw))  # [B, N, D]
    assert x.shape == (3, GRID * GRID, WIDTH) and np.asarray(mask).all()

    from transformers.models.vit.modeling_vit import ViTPatchEmbeddings

    vit = ViTPatchEmbeddings(transformers.ViTConfig(image_size=SIDE, patch_size=PATCH, hidden_size=WIDTH))
    kernel = params["project"]["kernel"].reshape(PATCH, PATCH, 3, WIDTH)  # bytes of a patch: row, column, channel
    with torch.no_grad():
        vit.projection.weight.copy_(torch.tensor(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))))
        vit.projection.bias.copy_(torch.tensor(params["project"]["bias"]))
        expected = vit(torch.tensor((images.transpose(0, 3, 1, 2) / 255.0 - mean) / std, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(x - sincos_2d(GRID, GRID, WIDTH), expected, rtol=1e-4, atol=1e-5)


def test_claim_2_a_learned_table_of_width_one_set_to_b_over_255_is_the_fixed_one(pictures, make_params):
    _, raw = pictures
    learned = ByteGroups(WIDTH, GROUP, GRID, table_width=1)
    params = make_params(learned, raw, used(raw))
    assert params["Embed_0"]["embedding"].shape == (256, 1)
    project = {"project": params["project"]}
    params["Embed_0"] = {"embedding": np.arange(256, dtype=np.float32)[:, None] / 255}
    x, _ = learned.apply({"params": params}, raw, used(raw))
    fixed, _ = ByteGroups(WIDTH, GROUP, GRID, mean=0.0, std=1.0).apply({"params": project}, raw, used(raw))
    np.testing.assert_allclose(x, fixed, rtol=1e-5, atol=1e-5)


def test_claim_2_every_modality_has_its_own_embedding(rng, make_params):
    raw = rng.integers(0, 256, (2, 96)).astype(np.uint8)
    wide = ByteGroups(WIDTH, 12, table_width=5)
    params = make_params(wide, raw, used(raw))
    x, _ = wide.apply({"params": params}, raw, used(raw))
    table = params["Embed_0"]["embedding"].astype(np.float64)
    expected = table[raw].reshape(2, 8, 60) @ params["project"]["kernel"] + params["project"]["bias"]
    np.testing.assert_allclose(x, expected + sincos_1d(range(8), WIDTH), rtol=1e-4, atol=1e-4)


def test_groups_beyond_the_used_length_are_masked(rng, make_params):
    raw = rng.integers(0, 256, (5, 48)).astype(np.uint8)
    module = ByteGroups(WIDTH, 12)
    _, mask = module.apply({"params": make_params(module, raw, used(raw))}, raw, np.array([0, 1, 12, 13, 48]))
    assert np.asarray(mask).sum(1).tolist() == [0, 1, 1, 2, 4]
    with pytest.raises(ValueError, match="groups of 13"):
        jax.eval_shape(lambda: ByteGroups(WIDTH, 13).init(jax.random.PRNGKey(0), raw, used(raw)))


def test_file_bytes_are_grouped_by_strided_convolution_and_masked(rng, make_params, call):
    raw = rng.integers(0, 256, (3, 64)).astype(np.uint8)
    length = np.array([64, 17, 0], np.int32)
    module = FileBytes(WIDTH, stride=16, table_width=6)
    params = make_params(module, raw, length)
    x, mask = call(module, "__call__", params, raw, length)
    assert x.shape == (3, 4, WIDTH) and np.asarray(mask).sum(1).tolist() == [4, 2, 0]
    noisy = raw.copy()
    noisy[1, 17:], noisy[2] = 7, 9  # what lies behind the end of the file
    np.testing.assert_array_equal(call(module, "__call__", params, noisy, length)[0], x)
    changed = raw.copy()
    changed[0, 63] ^= 1
    assert not np.array_equal(call(module, "__call__", params, changed, length)[0][0], x[0])
    # the convolution written out in float64: windows of 2 * stride, zero outside ("SAME")
    table, conv = params["Embed_0"]["embedding"].astype(np.float64), params["group"]
    padded = np.zeros((64 + 16, 6))
    padded[8:72] = table[raw[0].astype(int) + 3]
    y = np.stack([np.einsum("te,ted->d", padded[16 * i : 16 * i + 32], conv["kernel"]) + conv["bias"] for i in range(4)])
    gelu = np.asarray(jax.nn.gelu(y.astype(np.float32)))
    y = y + gelu @ params["mix"]["kernel"] + params["mix"]["bias"] + sincos_1d(range(4), WIDTH)
    np.testing.assert_allclose(x[0], y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("patch", "side", "channels"), [(4, 16, 0), (6, 24, 0), (14, 28, 8), (2, 8, 0)])
def test_claim_2_small_convolutions_give_the_same_patches_and_see_over_their_edges(
    rng, make_params, call, patch, side, channels
):
    torch = pytest.importorskip("torch")
    images, grid = rng.integers(0, 256, (3, side, side, 3)).astype(np.uint8), side // patch
    raw = np.stack([image_bytes(image, patch) for image in images])
    module = PixelBytes(16, patch, grid, channels=channels)
    params = make_params(module, raw, used(raw))
    assert params["conv_coarse"]["kernel"].shape == (3, 3, channels or 16, channels or 16)
    x, mask = call(module, "__call__", params, raw, used(raw))
    assert x.shape == (3, grid * grid, 16) and np.asarray(mask).all()

    def conv(y, name, stride=1, pad=(1, 1, 1, 1)):
        kernel = torch.tensor(np.ascontiguousarray(params[name]["kernel"].transpose(3, 2, 0, 1)))
        y = torch.nn.functional.pad(y, pad)
        return torch.nn.functional.conv2d(y, kernel, torch.tensor(params[name]["bias"]), stride)

    def active(y, name):
        scale, bias = (torch.tensor(params[name][key]) for key in ("scale", "bias"))
        y = torch.nn.functional.layer_norm(y.permute(0, 2, 3, 1), y.shape[1:2], scale, bias, 1e-6)
        return torch.nn.functional.gelu(y, approximate="tanh").permute(0, 3, 1, 2)

    y = torch.tensor((images.transpose(0, 3, 1, 2) / 255.0 - 0.5) / 0.25, dtype=torch.float32)
    y = conv(y, "conv_in", patch // 2, (0, 0, 0, 0))
    y = y + conv(active(y, "norm_fine"), "conv_fine")
    y = conv(active(y, "norm_down"), "conv_down", 2, (0, 1, 0, 1))
    y = y + conv(active(y, "norm_coarse"), "conv_coarse")
    y = y.flatten(2).transpose(1, 2).numpy()
    expected = (y @ params["project"]["kernel"] + params["project"]["bias"] if channels else y) + sincos_2d(grid, grid, 16)
    np.testing.assert_allclose(x, expected, rtol=1e-3, atol=2e-3)


def test_an_odd_patch_has_no_convolutional_stem():
    raw = np.zeros((1, 4 * 4 * 75), np.uint8)
    with pytest.raises(UserError, match="even patch, not 5"):
        jax.eval_shape(lambda: PixelBytes(16, 5, 4).init(jax.random.PRNGKey(0), raw, used(raw)))


def test_a_stem_needs_two_channels():
    raw, model = np.zeros((1, 192), np.uint8), CrossmodalBytes(stem="conv", stem_channels=1)
    with pytest.raises(UserError, match="stem_channels=1: must be 0"):
        jax.eval_shape(lambda: model.init(jax.random.PRNGKey(0), raw, used(raw), method="encode_image"))


@pytest.mark.parametrize("reducer", REDUCERS)
def test_a_224_pixel_picture_becomes_256_tokens_and_k_after_reduction(reducer):
    model = CrossmodalBytes(group=14 * 14 * 3, grid=16, width=8, heads=1, reducer=reducer, slots=5, second_layers=0)
    size = 224 * 224 * 3
    raw, length = jax.ShapeDtypeStruct((1, size), np.uint8), jax.ShapeDtypeStruct((1,), np.int32)
    tokens, _ = jax.eval_shape(
        lambda r, n: model.init_with_output(jax.random.PRNGKey(0), r, n, method="encode_image"), raw, length
    )
    count = 256 if reducer == "none" else 5
    assert tokens.reduced.assignment.shape == (1, count, 256) and tokens.x.shape == (1, count, 8)


def test_text_windows_and_masks(rng, make_params):
    ids = rng.integers(3, 259, (2, 16)).astype(np.int32)
    ids[1, 5:] = 0
    for window, counts in ((1, [16, 5]), (4, [4, 2])):
        module = TextBytes(WIDTH, window)
        x, mask = module.apply({"params": make_params(module, ids, ids * 0)}, ids, ids * 0)
        assert x.shape == (2, 16 // window, WIDTH) and np.asarray(mask).sum(1).tolist() == counts


@pytest.mark.parametrize("window", [1, 4])
def test_text_vectors_do_not_depend_on_how_much_padding_follows(rng, make_params, window):
    ids = rng.integers(3, 259, (2, 8)).astype(np.int32)
    longer = np.pad(ids, ((0, 0), (0, 8)))
    module = TextBytes(WIDTH, window)
    params = make_params(module, ids, ids * 0)
    short, long = (module.apply({"params": params}, one, one * 0)[0] for one in (ids, longer))
    np.testing.assert_allclose(short, long[:, : short.shape[1]], rtol=1e-5, atol=1e-5)


def test_the_sum_of_a_windows_bytes_stands_beside_its_convolution(rng, make_params):
    """Of 7 bytes in windows of 4 the second has three; pads add nothing."""
    ids, segments = rng.integers(3, 259, (2, 7)).astype(np.int32), rng.integers(0, 3, (2, 7)).astype(np.int32)
    ids[1, 5:] = 0
    plain, module = TextBytes(WIDTH, 4), TextBytes(WIDTH, 4, residual=True)
    params = make_params(module, ids, segments)
    table, segment = params["table"]["embedding"], params["segment"]["embedding"]
    own = (table[ids] + segment[segments]) * (ids != 0)[..., None]
    expected = np.stack([own[:, :4].sum(1), own[:, 4:].sum(1)], 1)
    (with_sum, mask), (without, _) = (one.apply({"params": params}, ids, segments) for one in (module, plain))
    np.testing.assert_allclose(with_sum - without, expected, rtol=1e-5, atol=1e-5)
    assert mask.shape == (2, 2)


def test_position_codes_are_the_closed_form():
    code = sincos_1d(np.arange(5), 6)
    for position in range(5):
        for i in range(3):
            angle = position / 10_000 ** (i / 3)
            np.testing.assert_allclose(code[position, [i, 3 + i]], [np.sin(angle), np.cos(angle)], atol=1e-6)
    grid = sincos_2d(3, 4, 8).reshape(3, 4, 8)
    np.testing.assert_array_equal(grid[2, 1], [*sincos_1d([2], 4)[0], *sincos_1d([1], 4)[0]])
    assert sincos_1d(range(4), 7).shape == (4, 7) and sincos_2d(2, 2, 9).shape == (4, 9)
