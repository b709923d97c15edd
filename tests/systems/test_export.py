"""Towers of runs as folders, loaded in PyTorch: the same hidden states from the same pictures and texts."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from configs import caption, pretrain, vqa
from tests.conftest import apply, fresh_seed, random_params
from tests.interop.oracle import close, torch, transformers
from tests.interop.test_cnn import TorchVGG
from tests.interop.test_vit import channels_first
from xmodal_jax.errors import UserError
from xmodal_jax.interop.cnn import VGGConfig
from xmodal_jax.interop.pretrained import load_pretrained
from xmodal_jax.interop.processing import ImageProcessor, read_json
from xmodal_jax.interop.trees import leaves, nest
from xmodal_jax.models.lora import merge
from xmodal_jax.systems import recipe
from xmodal_jax.systems.export import export
from xmodal_jax.systems.restore import open_run
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.mesh import make_mesh
from xmodal_jax.train.program import state_maker
from xmodal_jax.train.workdir import write_config

ROOT = pathlib.Path(__file__).parents[2]
BLOCKS = dict(width=16, heads=2, layers=2)
SIZES = {
    "vit": BLOCKS, "beit": BLOCKS, "bert": BLOCKS, "roberta": BLOCKS, "deberta_v3": BLOCKS, "gpt2": BLOCKS,
    "vgg": {"channels": (4, 0, 8, 0, 6, 0), "batch_norm": True}, "resnet": {"stem": 4, "widths": (8, 16), "depths": (1, 2)},
    "lstm": {"width": 12}, "gru": {"width": 12, "bidirectional": True},
}  # fmt: skip


def small(system, arguments, **changes):
    """A config whose towers from nothing are tiny."""
    config = system.get_config(f"debug,{arguments}")
    config.data.count, config.evaluators = 24, {}
    for name in ("image", "text", "decoder"):
        if config.model.get(name) and not config.model[name].init:
            config.model[name].update(SIZES.get(config.model[name].name, {}))
    config.update_from_flattened_dict(changes)
    return config


@functools.cache
def predictor_of(system, arguments, **changes):
    """(predictor with random parameters, towers, source) of a small config."""
    parts = recipe.make(small(system, arguments, **changes))
    params = leaves(random_params(parts.model, parts.example_batch(2)))
    params = {path: np.exp(value) if path.endswith("variance") else value for path, value in params.items()}
    return parts.predictor(nest(params)), parts.towers, parts.held_out


def exported(folder, found, name):
    """Write a tower into a new folder -> (folder, model_type)."""
    folder = str(folder / name)
    return folder, export(found[0], found[1], name, folder)


def pixels_of(folder, found):
    """uint8 pictures [B, H, W, 3] of the held-out split, and what the folder's processor makes of them."""
    images = np.stack([found[2][i]["image"] for i in range(3)])
    return images, channels_first(ImageProcessor.from_folder(folder)(images)["image"])


@pytest.mark.parametrize("kind", ["vit", "beit", "vgg", "resnet"])
def test_image_encoders(tmp_path, kind):
    found = predictor_of(vqa, f"image={kind}")
    folder, _ = exported(tmp_path, found, "image")
    images, pixels = pixels_of(folder, found)
    ours = apply(found[0].model, "encode_image", found[0].params, images).x
    with torch.no_grad():
        if kind == "vgg":
            features = TorchVGG(VGGConfig.from_dict(read_json(folder, "config.json"))).features.eval()
            torch.nn.ModuleDict({"features": features}).load_state_dict(load_file(f"{folder}/model.safetensors"))
            theirs = features(pixels)
        else:
            theirs = load(transformers.AutoModel, folder)(pixels).last_hidden_state
    theirs = theirs.flatten(2).transpose(1, 2) if kind in ("vgg", "resnet") else theirs
    close(ours, theirs, 1e-4, kind)


def load(kind, folder):
    """A model of transformers in evaluation mode, all arrays but those of a pooler found."""
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"] and all("pooler" in name or "tracked" in name for name in report["missing_keys"])
    return model.eval()


QUESTIONS = ["is there a red circle above the square?", "what color?", "how many unheard-of things are there?"]


def check_text(folder, predictor):
    """The ids and the hidden states of an exported text encoder."""
    made = [predictor.maker.text(question) for question in QUESTIONS]
    lengths = np.array([length for _, length in made])
    ours = apply(predictor.model, "encode_text", predictor.params, np.stack([ids for ids, _ in made]), lengths).x
    given = transformers.AutoTokenizer.from_pretrained(folder)(QUESTIONS, padding=True, return_tensors="pt")
    mask = given["attention_mask"].bool().numpy()
    for row, (ids, length) in enumerate(made):
        assert given["input_ids"][row][mask[row]].tolist() == ids[:length].tolist()
    with torch.no_grad():
        if "lstm" in folder or "gru" in folder:
            theirs = recurrent(folder, given["input_ids"], lengths)
        else:
            theirs = load(transformers.AutoModel, folder)(**given).last_hidden_state
    close(np.asarray(ours)[:, : mask.shape[1]][mask], theirs[torch.tensor(mask)], 1e-4, folder)


def recurrent(folder, ids, lengths):
    """States of an LSTM or GRU as docs/backbones.md loads it."""
    config, state = read_json(folder, "config.json"), load_file(f"{folder}/model.safetensors")
    words, kind = state.pop("words.weight"), {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[config["model_type"]]
    model = kind(words.shape[1], config["hidden_size"], config["num_layers"], bidirectional=config["bidirectional"])
    model.load_state_dict(state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(words[ids].transpose(0, 1), lengths, enforce_sorted=False)
    return torch.nn.utils.rnn.pad_packed_sequence(model(packed)[0], batch_first=True)[0]


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta_v3", "lstm", "gru"])
def test_text_encoders(tmp_path, kind):
    found = predictor_of(vqa, f"text={kind}")
    folder, written = exported(tmp_path / kind, found, "text")
    # the only mark of a learned tokeniser begins and pads, which a RoBERTa takes for padding
    assert written == {"roberta": "bert", "deberta_v3": "deberta-v2"}.get(kind, kind)
    check_text(folder, found[0])
    if kind in ("lstm", "gru"):
        assert load_pretrained(folder).module == found[1]["text"].module


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_text_encoder_of_a_dual_encoder(tmp_path, kind):
    found = predictor_of(caption, f"dual_encoder,text={kind}")
    predictor, _, source = found
    folder, _ = exported(tmp_path, found, "text")
    texts = [source.captions(i)[0][0] for i in range(3)]
    given = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        x = load(transformers.AutoModel, folder)(**given).last_hidden_state[:, 0]
    theirs = x.numpy() @ np.asarray(predictor.params["to_shared_text"]["kernel"])
    _, ours = predictor.pooled(texts=texts)
    close(ours, theirs / np.linalg.norm(theirs, axis=1, keepdims=True), 1e-4, kind)


def check_captioner(folder, found):
    """Logits of the whole captioner, of its two folders together; -> config of the decoder."""
    predictor = found[0]
    (image, _), (decoder, _) = (exported(folder, found, name) for name in ("image", "decoder"))
    images, pixels = pixels_of(image, found)
    texts = [found[2].captions(i)[0][0] for i in range(3)]
    made = [predictor.maker.caption(text) for text in texts]
    given = transformers.AutoTokenizer.from_pretrained(decoder)(texts)
    assert given["input_ids"] == [ids[1:length].tolist() for ids, length in made]
    assert set(given) == {"input_ids", "attention_mask"}
    ids, lengths = np.stack([ids for ids, _ in made]), np.array([length for _, length in made])
    seen = apply(predictor.model, "encode_image", predictor.params, images)
    ours = apply(predictor.model, "decode", predictor.params, ids, lengths, seen).logits
    config = load(transformers.GPT2LMHeadModel, decoder).config
    assert (config.bos_token_id, config.eos_token_id) == (predictor.maker.end,) * 2
    model = transformers.VisionEncoderDecoderModel.from_encoder_decoder_pretrained(image, decoder).eval()
    with torch.no_grad():
        theirs = model(pixel_values=pixels, decoder_input_ids=torch.tensor(ids).long()).logits
    mask = np.arange(ids.shape[1]) <= lengths[:, None]
    close(np.asarray(ours)[mask], theirs[torch.tensor(mask)], 1e-4, "logits")


@pytest.mark.parametrize("tokenizer", ["words:1", "bpe:300"])
def test_a_captioner_is_an_encoder_and_a_decoder(tmp_path, tokenizer):
    check_captioner(tmp_path, predictor_of(caption, "baseline,image=vit", **{"examples.tokenizer": tokenizer}))


def test_towers_from_checkpoints(tmp_path):
    """Of pictures of another size, with a head that was left out, in half precision; and without cross-attention."""
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    vit = transformers.ViTConfig(**sizes, image_size=32, patch_size=8)
    transformers.ViTForImageClassification(vit).half().save_pretrained(tmp_path / "vit")
    gpt2 = transformers.GPT2Config(vocab_size=120, n_positions=40, n_embd=16, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(gpt2).save_pretrained(tmp_path / "gpt2")
    arguments = f"baseline,image=vit,init_image={tmp_path / 'vit'},init_text={tmp_path / 'gpt2'}"
    check_captioner(tmp_path, predictor_of(caption, arguments, **{"examples.tokenizer": "words:1"}))


def test_a_roberta_whose_tokeniser_has_a_mark_for_padding(tmp_path):
    """It stays one, with its own way to count positions."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "is", "there", "a", "red", "circle", "above", "the", "?"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    marks = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(tmp_path / "first")
    config = transformers.RobertaConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=30,
    )  # fmt: skip
    transformers.RobertaForMaskedLM(config).save_pretrained(tmp_path / "first")
    found = predictor_of(vqa, f"text=roberta,init_text={tmp_path / 'first'}")
    folder, kind = exported(tmp_path, found, "text")
    assert kind == "roberta"
    check_text(folder, found[0])


@pytest.fixture
def run(tmp_path):
    """(folder of a run that has saved averaged parameters with low-rank adapters, those parameters merged)."""
    config = small(caption, "baseline,image=vit")
    config.ema, config.lora.patterns = 0.5, ("image/.*qkv", "decoder/.*up")
    parts, mesh, folder = recipe.make(config), make_mesh(config.mesh), str(tmp_path / "run")
    with jax.set_mesh(mesh):
        shapes = state_maker(parts, mesh)[1]
    rng = np.random.default_rng(fresh_seed())
    state = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    write_config(config, folder)
    checkpoints = Checkpoints(f"{folder}/checkpoints")
    checkpoints.save(2, state, {"next_step": 2})
    checkpoints.close()
    return folder, merge(state.ema)


@pytest.mark.slow
@pytest.mark.gate
def test_the_command(run, tmp_path):
    workdir, params = run
    folder = str(tmp_path / "new" / "image")
    command = [sys.executable, "-m", "xmodal_jax.export", f"--workdir={workdir}", "--tower=image", f"--to={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    files = "config.json, model.safetensors, preprocessor_config.json"
    assert done.stdout.splitlines()[-1] == f"{folder}: the image tower of step 2, a vit: {files}"
    ours, theirs = leaves(params["image"]), leaves(load_pretrained(folder).params)
    assert set(ours) == set(theirs)
    for path, array in ours.items():
        np.testing.assert_allclose(theirs[path], array, rtol=1e-5, atol=1e-6, err_msg=path)
    predictor, built, _ = open_run(workdir)
    with pytest.raises(UserError, match="holds something already"):
        export(predictor, built.towers, "image", folder)
    with pytest.raises(UserError, match="tower 'text'. Valid: decoder, image"):
        export(predictor, built.towers, "text", str(tmp_path / "text"))


@pytest.mark.parametrize(
    ("system", "arguments", "changes", "name", "told"),
    [
        (vqa, "image=convit", {}, "image", "A ConvViT has no counterpart in PyTorch"),
        (caption, "image=vit", {"model.decoder.unimodal": 1}, "decoder", "unimodal=1"),
        (pretrain, "image_size=32", {}, "image", "CrossmodalBytes is made of blocks of its own"),
    ],
    ids=["convit", "unimodal", "pretrain"],
)
def test_what_pytorch_does_not_have_is_refused(tmp_path, system, arguments, changes, name, told):
    found = predictor_of(system, arguments, **changes)
    with pytest.raises(UserError, match=told):
        exported(tmp_path, found, name)
    assert not os.listdir(tmp_path)
