"""BLIP against the originals in PyTorch: captions, retrieval, answers, and the dual encoder."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, close, randomise, torch, transformers
from tests.interop.test_clip import channels_first, pictures
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import load_pretrained

SIZES = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
TEXT = dict(
    hidden_size=12, encoder_hidden_size=16, vocab_size=30, max_position_embeddings=11, projection_dim=6, bos_token_id=1,
    sep_token_id=2, eos_token_id=2, label_smoothing=0.0, **SIZES,
)  # fmt: skip
VISION = dict(hidden_size=16, image_size=24, patch_size=8, projection_dim=6, **SIZES)
MASK = np.arange(9)[None] < np.array([[9], [4], [2]])


def made(kind, rng, **text):
    config = transformers.BlipConfig(
        text_config=TEXT | text, vision_config=VISION, projection_dim=6, image_text_hidden_size=5
    )  # fmt: skip
    return randomise(getattr(transformers, kind)(config), rng), pictures(rng), rng.integers(3, 30, (3, 9))


def given(x, ids, mask=MASK):
    return {
        "pixel_values": channels_first(x), "input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask).long()
    }  # fmt: skip


def test_captions(tmp_path, rng):
    model, x, ids = made("BlipForConditionalGeneration", rng)

    def theirs(model):
        out = model(**given(x, ids))
        return {"logits": out.logits, "image": out.last_hidden_state}

    def ours(module, variables):
        image, text, logits = module.apply(variables, x, ids, MASK)
        assert text is None
        return {"logits": logits, "image": image.x}

    module, _, _ = check_family(tmp_path, model, theirs, ours, rng)
    with pytest.raises(UserError, match="no encoder of texts"):
        module.apply({}, ids, method="encode_text")


def test_retrieval(tmp_path, rng):
    """The head for pairs, and cosines of both alone."""
    model, x, ids = made("BlipForImageTextRetrieval", rng)

    def theirs(model):
        return {"match": model(**given(x, ids)).itm_score, "cosines": model(**given(x, ids), use_itm_head=False).itm_score}

    def ours(module, variables):
        def both(model):
            image = model.encode_image(x)
            vectors = model.vectors(image, model.encode_text(ids, MASK))
            u, v = (vector / (vector**2).sum(-1, keepdims=True) ** 0.5 for vector in vectors)
            return {"match": model.match(model.encode_text(ids, MASK, image)), "cosines": u @ v.T}

        return module.apply(variables, method=both)

    check_family(tmp_path, model, theirs, ours, rng)


@pytest.mark.slow
def test_answers(tmp_path, rng):
    """Written of a question that has read the image, of which padding is not read: transformers 5.24 drops that mask on its way
    to the cross-attention, so that questions without padding alone are compared."""
    model, x, ids = made("BlipForQuestionAnswering", rng, hidden_size=16)
    answers, ends = rng.integers(3, 30, (3, 5)), np.ones((3, 5), bool)

    def theirs(model):
        image = model.vision_model(channels_first(x)).last_hidden_state
        question = model.text_encoder(
            input_ids=torch.tensor(ids), attention_mask=torch.ones(ids.shape).long(), encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:2]).long(),
        ).last_hidden_state  # fmt: skip
        return {
            "question": question,
            "logits": model.text_decoder(
                input_ids=torch.tensor(answers), attention_mask=torch.tensor(ends).long(), encoder_hidden_states=question,
                encoder_attention_mask=torch.ones(ids.shape).long(),
            ).logits,
        }  # fmt: skip

    def ours(module, variables):
        def both(model):
            question = model.encode_text(ids, None, model.encode_image(x))
            return {"question": question.x, "logits": model.decode(answers, ends, question)}

        return module.apply(variables, method=both)

    module, params, _ = check_family(tmp_path, model, theirs, ours, rng)

    def written(model, changed):
        question = model.encode_text(ids, MASK, model.encode_image(x))
        tokens = question.x + changed * ~MASK[..., None]
        return model.decode(answers, ends, question.replace(x=tokens))

    plain, other = (module.apply({"params": params}, changed, method=written) for changed in (0.0, 3.0))
    np.testing.assert_allclose(plain, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_dual_encoder(tmp_path, rng):
    model, x, ids = made("BlipModel", rng)

    def theirs(model):
        out = model(**given(x, ids))
        return {"logits": out.logits_per_image}

    def ours(module, variables):
        def both(model):
            vectors = model.vectors(model.encode_image(x), model.encode_text(ids, MASK))
            u, v = (vector / (vector**2).sum(-1, keepdims=True) ** 0.5 for vector in vectors)
            return {"logits": u @ v.T * np.e**model.log_scale}

        return module.apply(variables, method=both)

    check_family(tmp_path, model, theirs, ours, rng)


def test_another_image_size(call, tmp_path, rng):
    model, _, _ = made("BlipForConditionalGeneration", rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, image_size=40)
    x = pictures(rng, 40)
    with torch.no_grad():
        out = model.vision_model(channels_first(x), interpolate_pos_encoding=True)
    found = call(module, "encode_image", params, x)
    close(found.x, out.last_hidden_state, 1e-4, "x")
    close(found.pooled, out.pooler_output, 1e-4, "pooled")
