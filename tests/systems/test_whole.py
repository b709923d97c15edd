"""A trained run is whole by itself: used, exported and gone on with where its data are not, and whatever they became."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from configs import caption, pretrain, vqa
from tests.conftest import fresh_seed
from tests.data.written import lines
from tests.interop.oracle import transformers
from xmodal_jax import api
from xmodal_jax.data.tokenizers import learn_tokenizer
from xmodal_jax.decoding.predictor import ALIGNED, VERBS
from xmodal_jax.errors import UserError
from xmodal_jax.systems import kept, recipe, restore, whole
from xmodal_jax.systems.export import export
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.mesh import make_mesh
from xmodal_jax.train.program import state_maker
from xmodal_jax.train.workdir import write_config

BLOCKS = {"width": 16, "layers": 1, "heads": 2}
SLOW = ("bytes seen",)
NOUNS = ("bat", "boat", "pear", "tree", "dog")
SENSES = [
    {"id": "bat.1", "gloss": "a flying mammal", "synonyms": ["chiropteran"]},
    {"id": "bat.2", "gloss": "a club", "synonyms": ["stick"]},
]
SHORT = {"examples.text_length": 40, "examples.target_length": 24, "examples.caption_length": 24}
SYSTEMS = {  # what a run of each is made of: config file, arguments, changes
    "bytes": (pretrain, "data=captions,path={data}/told,inventory=en={data}/words.jsonl", {"ema": 0.5} | SHORT),
    "bytes seen": (pretrain, "data=captions,path={data}/told,inventory=en={data}/words.jsonl,init_image={vit}", SHORT),
    "captioner": (caption, "data=captions,path={data}/told,image=vit,init_image={vit},init_text={gpt2}", {}),
    "dual": (caption, "dual_encoder,data=captions,path={data}/told,image=vit", {}),
    "vqa": (vqa, "data=questions,path={data}/asked", {"model.image.channels": (4, 0, 8, 0, 8, 0)}),
}


def write_data(folder, sentence="a {} and one {} near it"):
    """Twelve pictures with captions, the same with questions, and a dictionary."""
    rng, told, asked = np.random.default_rng(0), [], []
    for i in range(12):
        for part in ("told", "asked"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(folder / part / f"{i}.png")
        one, other = NOUNS[i % 5], NOUNS[(i + 2) % 5]
        about = {"image": f"{i}.png", "split": "val" if i % 4 == 0 else "train"}
        told.append({**about, "captions": [sentence.format(one, other), f"the {one}"]})
        asked.append({**about, "question": f"is there {sentence.format(one, other)}?", "answer": (other, "yes", one)[i % 3]})
    lines(folder / "told" / "captions.jsonl", told)
    lines(folder / "asked" / "questions.jsonl", asked)
    lines(folder / "words.jsonl", [{"lemma": "bat", "senses": SENSES}, {"lemma": "dog", "senses": []}])


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """{"data", "vit", "gpt2"}: folders that runs are made of."""
    root = tmp_path_factory.mktemp("elsewhere")
    write_data(root / "data")
    settings = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **settings)).save_pretrained(root / "vit")
    gpt2 = transformers.GPT2Config(vocab_size=300, n_positions=40, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(gpt2).save_pretrained(root / "gpt2")
    learn_tokenizer("bpe:290", [f"a {a} and one {b} near it" for a in NOUNS for b in NOUNS]).save_pretrained(root / "gpt2")
    return {name: root / name for name in ("data", "vit", "gpt2")}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SYSTEMS]
)
def made(request, places, tmp_path_factory):
    """(name, folder of a run with drawn parameters, its config)."""
    file, arguments, changes = SYSTEMS[request.param]
    config = file.get_config(f"{arguments.format(**places)},image_size=32,debug")
    config.update_from_flattened_dict(changes)
    if request.param == "dual":
        config.model.image.update(BLOCKS)
        config.model.text.update(BLOCKS)
    config.evaluators = {}
    folder = str(tmp_path_factory.mktemp(request.param) / "run")
    parts, mesh = recipe.make(config, folder), make_mesh(config.mesh)
    write_config(config, folder)
    parts.keep(folder)
    with jax.set_mesh(mesh):
        shapes = state_maker(parts, mesh)[1]
    rng = np.random.default_rng(fresh_seed())
    state = jax.tree.map(lambda leaf: (rng.normal(size=leaf.shape) / 4).astype(leaf.dtype), shapes)
    checkpoints = Checkpoints(f"{folder}/checkpoints")
    checkpoints.save(3, state, {"next_step": 3})
    checkpoints.close()
    return request.param, folder, config


def pictures(count=2):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(count)]


def told(model):
    """Everything that a model says about two pictures."""
    given, out = pictures(), {}
    out["caption"] = model.caption(given, length=6) if "caption" in model.verbs else None
    out["answer"] = model.answer(given, "is there a bat?") if "answer" in model.verbs else None
    if "fill" in model.verbs:
        out["fill"] = model.fill(given, "a ___ near it")
        out["sense"] = model.pick_sense(given[0], "a bat near it", "bat")
    if "similarity" in model.verbs:
        out["similarity"] = model.similarity(given, ["a bat", "the pear"]).tolist()
    if "answers" in model.more:
        out["answers"] = model.answers(given, ["is there a dog?"] * 2, 3)
    return out


@pytest.fixture(scope="module")
def model(made):
    return api.load(made[1])


@pytest.fixture(scope="module")
def said(model):
    return told(model)


def refuse(*args, **kwargs):
    raise AssertionError("data or optimiser were touched")


def test_a_run_is_used_elsewhere_without_its_data(made, said, places, tmp_path, monkeypatch):
    _, folder, config = made
    moved = str(tmp_path / "another" / "place")
    shutil.move(folder, moved)
    aside = [(str(place), str(place) + ".aside") for place in places.values()]
    try:
        for place, other in aside:
            shutil.move(place, other)
        for name in ("open_source", "make_optimizer", "Batches"):
            monkeypatch.setattr(recipe, name, refuse)
        predictor, built, step = restore.open_run(moved)
        assert step == 3 and told(predictor) == said
        if "image" in built.towers:
            assert export(predictor, built.towers, "image", str(tmp_path / "tower")) in ("vit", "vgg")
    finally:
        for place, other in aside:
            shutil.move(other, place)
        shutil.move(moved, folder)
    monkeypatch.undo()
    before = recipe.make(config, folder).maker
    try:  # a corrected caption: new words, others the commonest
        write_data(places["data"], sentence="quite another {} beside every other {} here")
        assert told(api.load(folder)) == said
        after, anew = recipe.make(config, folder).maker, recipe.make(config).maker
        for name in ("answers", "content", "vocabulary"):
            assert getattr(after, name, None) == getattr(before, name, None)
        if made[0] in ("dual", "vqa"):  # those that learn their words
            assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab() != anew.tokenizer.get_vocab()
    finally:
        write_data(places["data"])


def test_a_run_from_before_is_completed_from_its_data_once(made, said, tmp_path, caplog):
    _, folder, _ = made
    old = str(tmp_path / "old")
    shutil.copytree(folder, old)
    shutil.rmtree(kept.kept_of(old))
    with caplog.at_level("INFO"):
        assert told(api.load(old)) == said
    assert kept.kept_of(old) and "has not kept what its model needs" in caplog.text
    caplog.clear()
    api.load(old)
    assert "has not kept" not in caplog.text


def test_a_whole_model_goes_through_a_folder(made, model, said, tmp_path):
    name, folder, config = made
    place = str(tmp_path / "model")
    model.save_pretrained(place)
    with open(f"{place}/config.json", encoding="utf-8") as file:
        about = json.load(file)
    assert (
        about["model_type"] == "xmodal_jax"
        and about["step"] == 3
        and whole.is_checkpoint(place)
        and not whole.is_checkpoint(folder)
    )
    assert str(tmp_path.parent) not in json.dumps(about) and "data" not in about["config"]
    again = api.load(place)
    assert told(again) == said and again.verbs == model.verbs
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: xmodal_jax\n") and all(f"model.{verb}(" in card for verb in model.verbs)
    if not name.startswith("bytes"):
        assert transformers.AutoTokenizer.from_pretrained(place).get_vocab() == model.maker.tokenizer.get_vocab()
        assert transformers.AutoImageProcessor.from_pretrained(place, backend="pil").size["height"] == 32
    with pytest.raises(UserError, match="holds something already"):
        model.save_pretrained(place)
    with pytest.raises(UserError, match="has one state"):
        api.load(place, step=3)


def test_a_model_is_pushed_to_the_hub(made, model, monkeypatch):
    import huggingface_hub

    calls = {}

    def upload(repo_id, folder_path, **settings):
        calls["upload"] = repo_id, whole.is_checkpoint(folder_path), settings
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **settings: calls.update(create=(name, settings)))
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    assert model.push_to_hub("me/bat", private=True, token="t") == "https://hub/me/bat"
    assert calls["create"] == ("me/bat", {"exist_ok": True, "private": True, "token": "t"})
    assert calls["upload"] == ("me/bat", True, {"token": "t"})


CALLS = {  # verb -> (call with one picture, call with several)
    "caption": (lambda m, p: m.caption(p[0], length=4), lambda m, p: m.caption(p, length=4)),
    "answer": (lambda m, p: m.answer(p[0], "is it?"), lambda m, p: m.answer(p, "is it?")),
    "fill": (lambda m, p: m.fill(p[0], "a ___"), lambda m, p: m.fill(p, ["a ___", "the ___ is"])),
    "embed_images": (lambda m, p: m.embed_images(p[0]), lambda m, p: m.embed_images(p)),
    "embed_texts": (lambda m, p: m.embed_texts("a bat"), lambda m, p: m.embed_texts(["a bat", "dog"])),
    "similarity": (lambda m, p: m.similarity(p[0], "a bat"), lambda m, p: m.similarity(p, ["a bat", "dog"])),
    "classify": (lambda m, p: m.classify(p[0], ["bat", "dog"]), lambda m, p: m.classify(p, ["bat", "dog"], ["a {}", "the {}"])),
}
KINDS = {"caption": str, "answer": str, "fill": tuple, "classify": list}
OFFERED = {
    "bytes": set(VERBS), "bytes seen": set(VERBS), "captioner": set(VERBS) - {"answer", "fill"}, "dual": set(ALIGNED),
    "vqa": {"answer"},
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_the_same_in_every_system(made, model, verb):
    assert set(model.verbs) == OFFERED[made[0]]
    one, several = CALLS[verb]
    if verb not in model.verbs:
        with pytest.raises(UserError, match=f"has no {verb}. It has {', '.join(v for v in VERBS if v in model.verbs)}"):
            one(model, pictures())
        return
    first, found = one(model, pictures()), several(model, pictures())
    if verb in KINDS:
        assert isinstance(first, KINDS[verb]) and isinstance(found, list) and len(found) == 2
        assert all(isinstance(each, KINDS[verb]) for each in found)
        assert several(model, np.stack(pictures())) == found, "an array of pictures is a list of them"
    elif verb == "similarity":
        assert np.shape(first) == () and found.shape == (2, 2)
        np.testing.assert_allclose(found[0, 0], first, atol=1e-5)
    else:
        assert first.ndim == 1 and found.shape == (2, *first.shape)
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
        np.testing.assert_allclose(found[0], first, atol=1e-5)
    if verb in ("caption", "answer", "fill"):
        assert found[0] == first if verb != "fill" else found[0][0] == first[0]
    if verb == "classify":
        shares = dict(first)
        cosines = model.similarity(pictures()[0], ["bat", "dog"]) * float(model.scale())
        expected = np.exp(cosines - cosines.max()) / np.exp(cosines - cosines.max()).sum()
        np.testing.assert_allclose([shares["bat"], shares["dog"]], expected, rtol=1e-4)
        assert first[0][1] >= first[1][1]


def test_a_model_says_what_it_is(made, model):
    text = repr(model)
    assert "parameters, step 3 of " in text.splitlines()[0]
    assert all((f".{verb}(" in text) == (verb in model.verbs) for verb in VERBS) and all(name in text for name in model.more)


def test_one_question_of_many_pictures_and_many_of_one(made, model):
    if "answer" not in model.verbs:
        pytest.skip("it answers no questions")
    given = pictures()
    assert model.answer(given[0], ["is it?", "a bat?"]) == [model.answer(given[0], "is it?"), model.answer(given[0], "a bat?")]
    with pytest.raises(UserError, match="2 pictures, but 3 questions"):
        model.answer(given, ["a?", "b?", "c?"])


def test_what_was_never_aligned_has_no_vectors(places):
    config = caption.get_config(f"baseline,data=captions,path={places['data']}/told,image=vit,image_size=32,debug")
    predictor = recipe.make(config).predictor(None)
    assert predictor.verbs == ("caption",)
    with pytest.raises(UserError, match="has no similarity .it was trained without contrast.. It has caption"):
        predictor.similarity(None, "a bat")


def test_what_is_no_model_of_ours_is_named(places):
    with pytest.raises(UserError, match="no whole model of xmodal_jax .model_type 'vit'"):
        api.load(places["vit"])
