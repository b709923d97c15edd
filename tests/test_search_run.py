"""A dual encoder's run of seconds, what its folder offers, and its start from a whole CLIP that is gone afterwards."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from transformers import CLIPConfig

from configs.search import get_config
from tests.conftest import random_params
from xmodal_jax import api
from xmodal_jax.data.tokenizers import END, learn_tokenizer
from xmodal_jax.errors import UserError
from xmodal_jax.interop import clip
from xmodal_jax.interop.pretrained import load_pretrained, new_settings, save_pretrained
from xmodal_jax.interop.processing import OPENAI, defaults
from xmodal_jax.interop.trees import leaves
from xmodal_jax.models.backbones.clip import direction
from xmodal_jax.page.desk import Desk, Served
from xmodal_jax.systems import recipe
from xmodal_jax.systems.export import export
from xmodal_jax.systems.model import build_model
from xmodal_jax.train import mesh as layout
from xmodal_jax.train.program import state_maker

BLOCKS = {"width": 16, "heads": 2, "layers": 1}
CONVOLUTIONS = {"widths": (8, 8, 16), "heads": 2, "layers": 1}
TEXTS = ["a dog", "two red cars and a cat", "a dog"]


def small(arguments="debug,image_size=32"):
    return shrunk(get_config(arguments))


def shrunk(config):
    """A config's run of seconds."""
    config.total_steps, config.checkpoint_every, config.log_every, config.batch_size = 4, 2, 2, 4
    config.data.count, config.examples.length, config.ema = 24, 10, 0.5
    for section in (config.model.image, config.model.text):
        if not section.init:
            section.update(CONVOLUTIONS if section.name == "convit" else BLOCKS)
    config.evaluators = {"retrieval": {"count": 5}}
    return config


def test_results_and_what_a_loaded_model_offers(run, model, held_out, tmp_path):
    _, results = run
    for name in ("i2t_r1", "t2i_r10", "mean_recall", "mean_recall_equal"):
        assert np.isfinite(results[f"retrieval/{name}"]), name
    assert model.verbs == ("embed_images", "embed_texts", "similarity", "classify")
    pictures = [held_out[i] for i in range(3)]
    found = model.similarity(pictures, TEXTS)
    assert found.shape == (3, 3) and np.ptp(found[:, :2]) > 1e-3
    np.testing.assert_array_equal(found[:, 0], found[:, 2])
    np.testing.assert_allclose(np.linalg.norm(model.embed_texts(TEXTS), axis=1), 1, rtol=1e-5)
    assert model.features(pictures).shape == (3, 64)
    with pytest.raises(UserError, match="has no caption. It has embed_images"):
        model.caption(pictures[0])
    model.save_pretrained(tmp_path / "whole")
    np.testing.assert_array_equal(api.load(tmp_path / "whole").similarity(pictures, TEXTS), found)


def test_a_folder_is_indexed_and_searched_by_command(run, model, held_out, command, capsys, tmp_path):
    photos, given = tmp_path / "my photos", [f"--workdir={run[0]}", f"--index={tmp_path / 'index'}"]
    photos.mkdir()
    for number in range(6):
        Image.fromarray(held_out[number]["image"]).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"x")
    command("search", "index", *given, f"--photos={photos}")
    assert "6 photos" in (told := capsys.readouterr().out) and "6 added" in told and "1 broken" in told
    command("search", "query", *given, TEXTS[1], "--top=3", "--json", f"--html={tmp_path / 'page.html'}")
    found = json.loads(capsys.readouterr().out)
    scores = model.similarity([held_out[i] for i in range(6)], TEXTS[1])
    assert [one["path"] for one in found] == [str(photos / f"{i}.png") for i in np.argsort(-scores)[:3]]
    np.testing.assert_allclose([one["score"] for one in found], np.sort(scores)[:-4:-1], atol=1e-5)
    assert all(one["box"] is None for one in found)
    assert (tmp_path / "page.html").read_text().count("<figure>") == 3
    command("search", "query", *given, f"--picture={photos / '2.png'}", "--top=1")
    assert capsys.readouterr().out == f"1.0000\t{photos / '2.png'}\n"
    command("search", "classify", *given, f"--photos={photos}", "--labels=dog,cat", "--prompts=a {}", "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted = dict(model.classify(held_out[3], ["dog", "cat"], "a {}"))
    assert len(lines) == 6 and lines[3]["labels"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["find"], "command 'find'"), (["query", "--workdir=x"], "Give what to search for"),
        (["index", "--workdir=x"], "--photos"),
        (["query", "--workdir=none", "a"], "nothing was indexed"), (["index", "a", "--workdir=x"], "Unknown argument 'a'"),
        (["index", "--workdir=x", "--photos=none"], "no such folder"), (["classify", "--workdir=x", "--photos=x"], "--labels"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_told(arguments, told, command):
    with pytest.raises(UserError, match=told):
        command("search", *arguments)


@pytest.mark.slow
def test_a_run_that_attends_and_refers_is_searched_in_two_stages(held_out, command, capsys, tmp_path):
    folder = tmp_path / "run"
    config = small("debug,image_size=32,attend=True,loss=triplet,refer=True")
    config.evaluators.refer = {"count": 5}
    results = api.train(config, folder)
    for name in (
        "retrieval/mean_recall",
        "retrieval/mean_recall_vectors",
        "refer/accuracy_50",
        "refer/mean_iou",
        "refer/absent_right",
    ):
        assert np.isfinite(results[name]), name
    photos, given = tmp_path / "photos", [f"--workdir={folder}", f"--index={tmp_path / 'index'}"]
    photos.mkdir()
    examples = [held_out[i] for i in range(6)]
    for number, example in enumerate(examples):
        Image.fromarray(example["image"]).resize((64, 32), Image.Resampling.NEAREST).save(photos / f"{number}.png")
    examples = [str(photos / f"{number}.png") for number in range(6)]
    command("search", "index", *given, f"--photos={photos}")
    (folder / "results.json").write_text(json.dumps({"refer/threshold": 0.0}))
    capsys.readouterr()
    command("search", "query", *given, TEXTS[1], "--top=6", "--json", f"--html={tmp_path / 'page.html'}")
    found = json.loads(capsys.readouterr().out)
    model = api.load(folder)
    scores = (model.similarity(examples, TEXTS[1]) + by_words(model, TEXTS[1], model.seen(examples)["regions"])) / 2
    assert [one["path"] for one in found] == [examples[i] for i in np.argsort(-scores)]
    np.testing.assert_allclose([one["score"] for one in found], np.sort(scores)[::-1], atol=1e-3)  # regions are kept as float16
    likely, boxes, words = model.located(examples, [TEXTS[1]] * 6)
    assert (
        words.shape == (6, 12, 16) and (likely >= 0).all() and (likely <= 1).all() and (boxes >= 0).all() and (boxes <= 1).all()
    )
    for one in found:
        np.testing.assert_allclose(one["box"], boxes[examples.index(one["path"])] * [64, 32, 64, 32], atol=0.06)
    assert (tmp_path / "page.html").read_text().count("<img") == 6
    maps = model.word_maps(examples[2], TEXTS[1])
    assert [word for word, _ in maps] == model.maker.tokenizer.decode(model.maker.ids(TEXTS[1])).split()
    assert all(grid.shape == (4, 4) and grid.sum() == pytest.approx(1, abs=1e-4) for _, grid in maps)
    desk = Desk(photos, tmp_path / "pages", [Served("full", model, 0.0)])
    shown = desk.query(TEXTS[1], top=1)["found"][0]
    seen = desk.look(shown["name"], TEXTS[1])
    assert len(seen["words"]) == len(maps) and seen["words"][0]["map"].startswith("data:image/png")
    np.testing.assert_allclose(seen["box"], boxes[examples.index(found[0]["path"])], atol=2e-3)
    np.testing.assert_allclose(seen["box"], shown["box"])
    command("search", "query", f"--workdir={folder}", TEXTS[1], f"--image={examples[2]}", "--json")
    (one,) = json.loads(capsys.readouterr().out)
    assert one["score"] == pytest.approx(likely[2], abs=1e-5) and one["box"] is not None
    (folder / "results.json").write_text(json.dumps({"refer/threshold": 1.1}))
    command("search", "query", f"--workdir={folder}", TEXTS[1], f"--image={examples[2]}", "--json")
    assert json.loads(capsys.readouterr().out)[0]["box"] is None


def test_data_without_boxes_teaches_no_objects(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image": "1.png", "captions": ["a dog"], "split": "train"}\n' * 3)
    Image.new("RGB", (32, 32)).save(tmp_path / "1.png")
    config = get_config(f"debug,refer=True,data=captions,path={tmp_path},image_size=32")
    with pytest.raises(UserError, match="no phrases with boxes"):
        recipe.make(config, split="train")


def by_words(model, text, regions):
    """Attended similarity of a text and pictures, by hand."""
    (words,), (importance,) = model.words([text])
    cosines = words @ regions.swapaxes(1, 2)  # [pictures, T, N]
    weights = np.exp(np.exp(model.params["log_sharpness"]) * cosines)
    seen = weights / weights.sum(-1, keepdims=True) @ regions
    return ((seen * words).sum(-1) / np.linalg.norm(seen, axis=-1)) @ importance


def test_small_scales_have_two_encoders_of_the_same_blocks():
    for scale in ("tiny", "small"):
        config = get_config(f"scale={scale}").model
        for name in ("width", "heads", "layers", "mlp_ratio"):
            assert config.image[name] == config.text[name], name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(folder, module, parameters) of a tiny CLIP, its tokeniser with a mark before a text, its processor's own mean."""
    folder = str(tmp_path_factory.mktemp("clip") / "clip")
    sizes = dict(num_hidden_layers=1, num_attention_heads=2, hidden_size=16, intermediate_size=24)
    words = learn_tokenizer("words:1", [*TEXTS, "a blue boat near the green tree"])
    words.add_special_tokens({"bos_token": "<|startoftext|>"})
    text = dict(sizes, vocab_size=len(words), max_position_embeddings=20, eos_token_id=words.convert_tokens_to_ids(END))
    config = CLIPConfig(vision_config=dict(sizes, image_size=24, patch_size=8), text_config=text, projection_dim=12)
    module = clip.module(config, ())
    params = random_params(module, *clip.FAMILY.example(config))
    save_pretrained(folder, module, params | {"log_scale": np.float32(3.5)}, new_settings(clip.FAMILY, config, ()))
    words.save_pretrained(folder)
    defaults("clip").to_folder(folder)
    return folder, *load_pretrained(folder)[:2]


@pytest.fixture(scope="module")
def started(checkpoint):
    """(recipe, parameters) of a run that starts from it."""
    config = small(f"debug,init={checkpoint[0]}")
    config.optimizer.name, config.ema = "sgd", 0.0  # less to compile
    parts = recipe.make(config)
    mesh = layout.make_mesh({}, jax.devices()[:1])
    with jax.set_mesh(mesh):
        return parts, state_maker(parts, mesh)[0]().params


@pytest.fixture(scope="module")
def similarity(started, pictures):
    """Of three pictures and three texts, by the model as it starts."""
    return started[0].predictor(started[1]).similarity(pictures, TEXTS)


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(1).integers(0, 256, (3, 24, 24, 3)).astype(np.uint8))


def test_a_start_from_clip_is_that_clip(call, checkpoint, started, similarity, pictures):
    """Pictures of its size, by its mean and deviation; its marks around a text; its vectors and its temperature."""
    _, module, params = checkpoint
    parts, ours = started
    pixels = np.float32((np.stack(pictures) / 255 - OPENAI["image_mean"]) / OPENAI["image_std"])
    words = parts.maker.tokenizer
    ids = np.full((3, 9), words.eos_token_id, np.int32)
    for row, text in zip(ids, TEXTS, strict=True):
        found = [words.bos_token_id, *words(text)["input_ids"]]
        row[: len(found)] = found
    image, text = (call(module, verb, params, x).pooled for verb, x in (("encode_image", pixels), ("encode_text", ids)))
    cosines = direction(image) @ direction(text).T
    assert np.ptp(cosines, axis=0).max() > 1e-2 and np.ptp(cosines, axis=1).max() > 1e-2
    np.testing.assert_allclose(similarity, cosines, atol=1e-6)
    np.testing.assert_allclose(parts.predictor(ours).scale(), np.exp(params["log_scale"]), rtol=1e-6)
    assert parts.config.examples.image_size == 24 and parts.model.shared_width == 12


def test_a_run_from_clip_needs_its_folder_no_more(checkpoint, started, similarity, pictures, tmp_path):
    folder, _, params = checkpoint
    parts, ours = started
    parts.keep(str(tmp_path))
    shutil.move(folder, f"{folder}.aside")
    try:
        built = build_model(parts.config, kept=str(tmp_path / "model"))
    finally:
        shutil.move(f"{folder}.aside", folder)
    assert built.model == parts.model
    predictor = built.predictor(ours)
    np.testing.assert_array_equal(predictor.similarity(pictures, TEXTS), similarity)
    for name, part, kind in (("image", "vision", "clip_vision_model"), ("text", "text", "clip_text_model")):
        assert export(predictor, built.towers, name, str(tmp_path / name)) == kind
        written = load_pretrained(tmp_path / name)
        assert written.module == getattr(parts.model, name)
        jax.tree.map(np.testing.assert_array_equal, written.params, params[part])


@pytest.mark.slow
@pytest.mark.gate
def test_a_whole_clip_is_used_as_it_is(checkpoint, similarity, pictures, command, capsys, tmp_path):
    np.testing.assert_allclose(api.load(checkpoint[0]).similarity(pictures, TEXTS), similarity, atol=1e-6)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    given = [f"--model={checkpoint[0]}", f"--index={tmp_path / 'index'}"]
    command("search", "index", *given, f"--photos={tmp_path}")
    capsys.readouterr()
    command("search", "query", *given, TEXTS[1], "--json", "--top=3")
    scores = [one["score"] for one in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(scores, np.sort(similarity[:, 1])[::-1], atol=1e-5)


def test_one_tower_of_a_clip_alone(checkpoint):
    """Beside a text encoder that is new: nothing but the tower comes from there."""
    folder, module, params = checkpoint
    config = small(f"debug,image=clip,init_image={folder},image_size=24")
    tower = recipe.make(config).towers["image"]
    found = tower.checkpoint().read()
    assert set(found) == {f"image/{path}" for path in leaves(params["vision"])} and tower.module == module.vision


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.image.name": "vit"}, "config.model.image must be its tower, 'clip'"),
        ({"model.interaction": "double"}, "config.model.interaction.name"),
        ({"model.aggregate": "last"}, "config.model.aggregate='last': must be one of first, mean, weighted"),
    ],
)
def test_mistakes_are_named(checkpoint, changes, told):
    config = small(f"debug,init={checkpoint[0]}")
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=told):
        parts = recipe.make(config)
        jax.eval_shape(parts.model.init, jax.random.PRNGKey(0), parts.example_batch(1))


def test_what_is_no_whole_clip_is_refused(started, tmp_path):
    parts, ours = started
    export(parts.predictor(ours), parts.towers, "image", str(tmp_path / "image"))
    with pytest.raises(UserError, match="holds a clip_vision_model, not a whole CLIP"):
        get_config(f"init={tmp_path / 'image'}")
