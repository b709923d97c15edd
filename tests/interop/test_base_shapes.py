"""Every family at its usual size, texts with padding and of odd length: forward, gradients and the way back."""

import jax
import numpy as np
import pytest

from tests.interop import test_bert, test_clip, test_cnn, test_deberta, test_vilt
from tests.interop.oracle import check_family, torch, transformers, with_padding_learned
from tests.interop.test_vilt import in_order  # noqa: F401 (a fixture)
from tests.interop.test_vit import channels_first
from xmodal_jax.interop.cnn import VGGConfig
from xmodal_jax.models.backbones.vgg import VGG16

pytestmark = pytest.mark.slow
DRAWS = 3


@pytest.fixture(autouse=True)
def as_users_compile():
    """The quick tests' unoptimised products sum one by one: ten times the rounding, and ten times as many ReLUs that flip."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


LENGTH = 131  # tokens
DEBERTA = dict(
    hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, vocab_size=1000,
    relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"],
    position_biased_input=False, type_vocab_size=0,
)  # fmt: skip


def last_and_pooled(out):
    last, pooled = (out.last_hidden_state, out.pooler_output) if hasattr(out, "last_hidden_state") else (out.x, out.pooled)
    return {"last": last} if pooled is None else {"last": last, "pooled": pooled}


def picture_encoder(rng, model):
    x = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    theirs = lambda m: last_and_pooled(m(channels_first(x)))  # noqa: E731
    return model, theirs, lambda m, v: last_and_pooled(m.apply(v, x))


def vit(rng):
    return picture_encoder(rng, transformers.ViTModel(transformers.ViTConfig()))


def beit(rng):
    config = transformers.BeitConfig(use_relative_position_bias=True, layer_scale_init_value=0.1)
    return picture_encoder(rng, transformers.BeitModel(config))


def resnet(rng):
    model = transformers.ResNetModel(transformers.ResNetConfig())  # ResNet-50
    x = rng.normal(size=(2, 225, 160, 3)).astype(np.float32)

    def theirs(model):
        out = model(channels_first(x))
        return {"last": out.last_hidden_state.flatten(2).transpose(1, 2), "pooled": out.pooler_output.flatten(1)}

    return model, theirs, lambda m, v: last_and_pooled(m.apply(v, x))


def text_encoder(rng, model):
    ids, mask, types = test_bert.text(model.config, rng, 2, LENGTH)
    theirs = lambda m: last_and_pooled(m(**test_bert.arguments(ids, mask, types)))  # noqa: E731
    return model, theirs, lambda m, v: last_and_pooled(m.apply(v, ids, mask, types))


def bert(rng):
    return text_encoder(rng, transformers.BertModel(transformers.BertConfig()))


def roberta(rng):
    return text_encoder(rng, transformers.RobertaModel(transformers.RobertaConfig(vocab_size=1000)))


def deberta(rng):
    model = transformers.DebertaV2Model(transformers.DebertaV2Config(**DEBERTA))
    ids, mask, types = test_deberta.text(model.config, rng, 2, LENGTH)

    def theirs(model):
        out = model(**test_deberta.arguments(ids, mask, types)).last_hidden_state
        return {"last": out * torch.tensor(mask)[..., None]}

    return model, theirs, lambda m, v: test_deberta.zero_where_masked({"last": m.apply(v, ids, mask, types).x}, mask)


def gpt2(rng):
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=1000, bos_token_id=1, eos_token_id=2))
    ids, mask, _ = test_bert.text(transformers.BertConfig(vocab_size=1000), rng, 2, LENGTH)
    theirs = lambda m: {"logits": m(torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long()).logits}  # noqa: E731
    return model, theirs, lambda m, v: {"logits": m.apply(v, ids, mask).logits}


def t5(rng):
    config = transformers.T5Config(
        d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, vocab_size=1000, decoder_start_token_id=0
    )
    texts = [test_bert.text(transformers.BertConfig(vocab_size=1000), rng, 2, length)[:2] for length in (LENGTH, 37)]
    (ids, mask), (inputs, inputs_mask) = texts
    names = ("input_ids", "decoder_input_ids", "attention_mask", "decoder_attention_mask")
    given = {n: torch.tensor(x).long() for n, x in zip(names, (ids, inputs, mask, inputs_mask), strict=True)}
    theirs = lambda m: {"logits": m(**given).logits}  # noqa: E731
    ours = lambda m, v: {"logits": m.apply(v, ids, inputs, mask, inputs_mask).logits}  # noqa: E731
    return transformers.T5ForConditionalGeneration(config), theirs, ours


def clip(rng):
    text = {"vocab_size": 1000, "bos_token_id": 0, "eos_token_id": test_clip.END, "pad_token_id": 1}
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text))  # ViT-B/32
    return model, *test_clip.both(test_clip.pictures(rng, 224), *test_clip.texts(rng, 3, 77))


def vilt(rng):
    config = transformers.ViltConfig(vocab_size=1000)  # B/32
    seen = [(12, 7), (9, 12)]
    given = test_vilt.inputs(config, rng, (384, 384), seen, 31)
    return transformers.ViltModel(config), *test_vilt.both(*given, seen, config.patch_size)


FAMILIES = (vit, beit, bert, roberta, deberta, gpt2, clip, vilt)


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_base_shapes(tmp_path, rng, in_order, make):  # noqa: F811
    check(make, tmp_path, rng)


def check(make, folder, rng, **settings):
    torch.manual_seed(int(rng.integers(2**31)))
    model, theirs, ours = make(rng)
    check_family(folder, with_padding_learned(model), theirs, ours, rng, **settings)


@pytest.mark.parametrize("make", [resnet, t5], ids=lambda make: make.__name__)
def test_base_shapes_with_relu(tmp_path, rng, make):
    redrawn(lambda folder: check(make, folder, rng, against_float64=True), tmp_path)


def test_vgg16(tmp_path, rng):
    config = VGGConfig(channels=VGG16, num_labels=1000)
    redrawn(lambda folder: test_cnn.check_vgg(folder, rng, config, (224, 193), against_float64=True), tmp_path)


def redrawn(check, tmp_path):
    """check(a new folder) until it passes, DRAWS times at most.

    Of millions of ReLUs one may lie within float32's rounding of 0, and be open in PyTorch and closed in ours or in float64:
    every gradient before it differs by percents then, whoever is right (PyTorch's were seen 2e-2 off float64's).
    """
    for number in range(DRAWS):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            return check(folder)
        except AssertionError as error:
            if number == DRAWS - 1:
                raise
            print(f"draw {number}: {error}")
