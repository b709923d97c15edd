"""A fused model's run of seconds: its objectives on held-out pairs, and what is refused before anything is built."""

import dataclasses
import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs.zoo import ROWS, get_config
from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.objectives import ObjectivesEvaluator, swapped, without
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.objectives.sums import weighted
from xmodal_jax.systems import recipe
from xmodal_jax.train.gradient import evaluate_objectives

BLOCKS = {"width": 16, "heads": 2}


def small(arguments="vilt,debug,image_size=32"):
    config = get_config(arguments)
    for one in (config, config.teacher.run) if "teacher" in config else (config,):
        shrink(one)
    return config


def shrink(config):
    config.total_steps, config.checkpoint_every, config.log_every, config.batch_size = 4, 2, 2, 4
    config.examples.length = 10
    if "count" in config.data:
        config.data.count = 24
    for part in ("image", "text", "interaction"):
        if part in config.model:
            own = config.model[part]
            sizes = BLOCKS | {"layers": min(own.get("layers", 0), 1)}
            own.update({name: value for name, value in sizes.items() if name in own})
    config.evaluators = {"objectives": {"count": 8, "rows": 4, "predictions": 0}}


def test_every_objective_is_told_on_held_out_pairs(run):
    _, results = run
    config = small()
    for name in config.objectives:
        assert np.isfinite(results[f"objectives/{name}/loss"]), name
    for name in ("words", "match"):
        found = {
            kind: results[f"objectives/{name}/{kind}"] for kind in ("wrong", "none", "gain", "gain_low", "chance", "count")
        }
        right = results[f"objectives/{name}/{name}_right"]
        assert 0 <= found["wrong"] <= 1 and found["gain_low"] <= found["gain"] and found["count"] >= 8, name
        assert 0 < found["chance"] <= 1 and np.isfinite(right)


def test_what_a_loaded_model_offers(run, model, held_out, call):
    """Words for a blank and the probability of a pair, as the model's own parts give them."""
    assert model.verbs == ("fill",) and model.more == ("features", "match")
    pictures, text = [held_out[i] for i in range(3)], "this is a ___ dog"
    found = model.fill(pictures, text)
    ids, length = model.maker.caption(text.replace("___", model.maker.tokenizer.mask_token))
    place = int(np.flatnonzero(ids == model.maker.tokenizer.mask_token_id)[0])

    def verb(name, *args):
        return call(model.model, name, model.params, *args)

    for picture, (word, score) in zip(pictures, found, strict=True):
        pair = verb("fuse", verb("encode_text", ids[None], length[None]), verb("encode_image", picture["image"][None]), "both")
        told = np.array(jax.nn.log_softmax(verb("predict", "words", pair.text)[0, place]))
        told[[model.maker.tokenizer.mask_token_id, model.maker.end]] = -np.inf
        assert word == model.maker.tokenizer.decode([told.argmax()]) and score == pytest.approx(told.max(), abs=1e-4)
        share = float(jax.nn.softmax(verb("predict", "match", pair.pooled))[0, 1])
        assert model.match(picture, text.replace("___", model.maker.tokenizer.mask_token)) == pytest.approx(share, abs=1e-4)
    for mistake, told in (("no blank", "has no blank"), ("a " * 20 + "___", "stands behind the 10 words")):
        with pytest.raises(UserError, match=told):
            model.fill(pictures[0], mistake)


def test_vectors_of_rows_that_read_more_than_pixels():
    """Of a held-out example by its own boxes, of a bare picture by a grid."""
    parts = recipe.make(small("wenlan,debug,image_size=32"))
    model = parts.predictor(random_params(parts.model, parts.example_batch(1)))
    example = parts.held_out[0]
    found = model.embed_images([example, example["image"]])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert model.verbs[0] == "embed_images" and np.abs(found[0] - found[1]).max() > 1e-3


def test_right_wrong_and_no_picture(monkeypatch):
    """The evaluator's figures by hand: a loss that looks at nothing but the picture's first pixel."""
    parts = recipe.make(small())
    judge = ObjectivesEvaluator(parts, count=8, rows=4, predictions=0)
    judge.objectives = {"match": {}}
    for batch in judge.batches:
        batch["image"] = batch["image"].copy()
        batch["image"][:, 0, 0, 0] = [1, 2, 3, 4]
        batch["match"] = np.array([1, 0, 1, 1])

    def loss(verbs, batch, key, config):
        shown = jnp.asarray(batch["image"])[:, 0, 0, 0]
        right = (shown == jnp.arange(1, 5)) | ((shown == 128) & (batch["match"] == 0))
        metrics = {"match_right": weighted(right, jnp.ones(4)), "match_apart": weighted(jnp.full(4, 0.5), jnp.ones(4))}
        return weighted(shown.astype(float), jnp.ones(4)), metrics

    def compare(verbs, rows, config):
        return weighted(rows, jnp.ones(4)), {"contrastive_right": weighted(rows > 2, jnp.ones(4))}

    changes = {"represent": lambda verbs, batch, config: jnp.asarray(batch["image"])[:, 0, 0, 0], "compare": compare}
    judge.objectives["contrastive"] = {}
    monkeypatch.setitem(OBJECTIVES, "contrastive", dataclasses.replace(OBJECTIVES["contrastive"], **changes))
    monkeypatch.setitem(OBJECTIVES, "match", dataclasses.replace(OBJECTIVES["match"], loss=loss))
    results, _ = judge.run(types.SimpleNamespace(model=None, params={}))
    compared = {name.rpartition("/")[2]: results.pop(name) for name in [*results] if "contrastive" in name}
    assert compared == {"loss": 2.5, "contrastive_right": 0.5, "chance": 0.25}
    found = {name.rpartition("/")[2]: value for name, value in results.items()}
    expected = {"loss": 2.5, "match_right": 1, "wrong": 0, "none": 0.25, "gain": 1, "gain_low": 1, "chance": 0.75, "count": 8}
    assert found.pop("match_apart") == 0.5
    assert found == pytest.approx(expected)


def test_pairs_are_masked_anew_until_there_are_predictions_enough():
    """All turns of a pair in one portion, with other words masked; no more turns than are needed."""
    judge = ObjectivesEvaluator(recipe.make(small()), count=8, rows=4, predictions=40)
    turns = len(judge.batches) // 2
    assert 1 < turns < 10 and min(len(judge.labels(name)) for name in ("words", "match")) >= 40
    assert [list(portion) for portion in judge.portions] == [list(range(first, 2 * turns, 2)) for first in (0, 1)]
    first, second, again = judge.batches[:3]
    assert (first["image"] == again["image"]).all() and (first["image"] != second["image"]).any()
    assert (first["masked_places"] != again["masked_places"]).any()
    del judge.batches[-2:]
    assert min(len(judge.labels(name)) for name in ("words", "match")) < 40


def test_an_objective_that_has_no_class_to_tell_is_not_waited_for(monkeypatch):
    for name in ("words", "match"):
        nothing = dataclasses.replace(OBJECTIVES[name], labels=lambda batch, config: np.full(4, -1))
        monkeypatch.setitem(OBJECTIVES, name, nothing)
    assert len(ObjectivesEvaluator(recipe.make(small()), count=8, rows=4, predictions=40).batches) == 2


def test_a_row_of_stages():
    """VLMo's: images, then texts alone, which leave attention and images as they are, then pairs with two contrasts."""
    config = small("vlmo,debug,image_size=32")
    ends = [
        (name, stage.until) for name, stage in sorted(get_config("vlmo").stages.items(), key=lambda item: item[1].until or 9e9)
    ]
    assert ends == [("images", 300), ("texts", 600), ("pairs", 0)]
    parts = recipe.make(config)
    active = [{name for name, own in stage.of(parts.objectives).items() if own["weight"]} for stage in parts.stages.stages]
    assert active == [{"image_codes"}, {"text_words"}, {"contrastive", "match_hard", "words"}]
    params = random_params(parts.model, parts.example_batch(1))
    paths = ["/".join(key.key for key in path) for path, _ in jax.tree.leaves_with_path(params)]
    moving = {path for path in paths if not any(re.search(pattern, path) for pattern in config.stages.texts.freeze)}
    assert {path for path in moving if path.startswith("interaction/upper/text/")}
    assert not {path for path in moving if re.search("attention|interaction.*image|^image/", path)}
    batch = parts.batches[0]
    verbs = Verbs(parts.model, params)
    told = verbs.encode_text(batch["caption"], batch["caption_length"])
    found = parts.model.interaction.clone(parent=None).apply(
        {"params": params["interaction"]}, told.replace(x=told.own), "text", method="alone"
    )
    np.testing.assert_allclose(told.deepest, found[0], atol=1e-5)
    again = np.float64(found[1][:, 0]) @ np.float64(params["to_shared_text_again"]["kernel"])
    np.testing.assert_allclose(told.again, again / np.linalg.norm(again, axis=-1, keepdims=True), atol=1e-5)
    assert not small("vlmo,debug,objectives=words").stages
    config = small("albef,debug")
    config.objectives.contrastive = {"again": True}
    with pytest.raises(UserError, match="has no experts of the pair"):
        parts = recipe.make(config)
        jax.eval_shape(lambda: parts.model.init(jax.random.PRNGKey(0), parts.example_batch(1)))


def test_attention_is_read_from_layers_that_are_apart():
    """As a finished model's are on a CPU."""
    parts = recipe.make(small("visual_parsing,debug,image_size=32"))
    model = parts.predictor(random_params(parts.model, parts.example_batch(1)))
    results, _ = ObjectivesEvaluator(parts, count=4, rows=4, predictions=0).run(model)
    assert np.isfinite(results["objectives/attention_guided/attention_guided_error"])


def test_another_side_may_be_exchanged():
    """Captions of other pairs, or none: an end mark behind the first one."""
    ids, lengths = np.array([[9, 3, 4, 1, 1], [9, 5, 1, 1, 1]]), np.array([3, 2])
    batch = {"image": np.array([1, 2]), "image_second": np.array([3, 4]), "caption": ids, "caption_length": lengths}
    found = swapped(batch, "caption")
    assert np.array_equal(found["caption"], ids[::-1]) and found["caption_length"].tolist() == [2, 3]
    assert found["image"] is batch["image"] and swapped(batch, "image")["image_second"].tolist() == [4, 3]
    found = without(batch, "caption")
    assert found["caption"].tolist() == [[9, 1, 1, 1, 1]] * 2 and found["caption_length"].tolist() == [1, 1]
    assert without(batch, "image")["image"].tolist() == [128, 128]


# One compilation an interaction (that of `cross` is in tests/train/test_memory.py) and a decoder; the others are traced, and
# compiled by the slow tests.
# Traced by the slow tests alone: each of their parts and objectives is one of another row's, too.
LIKE_OTHERS = (
    "oscar", "unicoder_vl", "unified_vlp", "xgpt", "lxmert", "vilbert", "tcl", "blip", "clip", "wenlan", "wenlan2", "align",
    "siglip", "villa", "uniter", "gmu", "simvlm",
)  # fmt: skip
COMPILED = ("uniter", "lxmert", "vlmo", "gmu", "simvlm")


@pytest.mark.parametrize("row", [pytest.param(row, marks=[pytest.mark.slow] * (row in LIKE_OTHERS)) for row in ROWS])
def test_every_row_can_be_traced(row):
    """Its model, its examples as they say they are, and a loss and metrics of each of its objectives, one number each."""
    parts = recipe.make(small(f"{row},debug,image_size=32"))
    assert set(parts.objectives) == {*ROWS[row]["objectives"], *ROWS[row].get("tiny", {}).get("objectives", {})}
    batch = parts.batches[0]
    assert {name: (value.shape[1:], value.dtype) for name, value in batch.items()} == {
        name: (value.shape[1:], value.dtype) for name, value in parts.example_batch(4).items()
    }
    params = jax.eval_shape(lambda: parts.model.init(jax.random.PRNGKey(0), parts.example_batch(1)))["params"]
    losses, metrics = jax.eval_shape(evaluator(parts, batch), params)
    assert set(losses) == set(parts.objectives)
    assert {leaf.shape for leaf in jax.tree.leaves((losses, metrics))} == {()}


@pytest.mark.parametrize("row", [pytest.param(row, marks=[pytest.mark.slow] * (row not in COMPILED)) for row in ROWS])
def test_every_row_has_a_finite_loss_in_each_of_its_objectives(row):
    parts = recipe.make(small(f"{row},debug,image_size=32"))
    params = random_params(parts.model, parts.example_batch(1))
    losses, metrics = jax.jit(evaluator(parts, parts.batches[0]))(params)
    for name, found in (losses | metrics).items():
        assert np.isfinite(float(found.mean())), name


def evaluator(parts, batch):
    return lambda p: evaluate_objectives(parts.model, parts.objectives, p, batch, jax.random.PRNGKey(0), False)


def test_pictures_without_boxes_train_a_row_of_regions_all_the_same(tmp_path):
    """By the grid alone, without the objectives that names of objects are needed for, as the message says."""
    Image.new("RGB", (32, 32), (9, 99, 200)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 32), (200, 99, 9)).save(tmp_path / "b.png")
    rows = [{"image": name, "captions": ["a square", "nothing else"], "split": "train"} for name in ("a.png", "b.png")]
    rows[1]["split"] = "val"
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = get_config(f"uniter,debug,image_size=32,data=captions,path={tmp_path}")
    with pytest.raises(
        UserError, match="go without: --config.objectives.classes.weight=0 --config.objectives.detector.weight=0"
    ):
        recipe.make(config)
    for name in ("classes", "detector"):
        config.objectives[name].weight = 0.0
    config.examples.tokenizer = "words:1"
    batch = recipe.make(config).batches[0]
    assert (batch["regions_there"].sum(1) == 9).all()


@pytest.mark.parametrize(("row", "through"), [("unimo", True), ("flava", False)])
def test_whose_vectors_go_through_the_fusion(row, through, call):
    """UNIMO's do, its encoders are embeddings; FLAVA's are its encoders'."""
    parts = recipe.make(small(f"{row},debug,image_size=32"))
    params = random_params(parts.model, parts.example_batch(1))
    moved = {**params, "interaction": jax.tree.map(lambda x: 0.5 * x, params["interaction"])}
    ids = np.ones((1, 12), np.int32)
    before, after = (call(parts.model, "encode_text", p, ids, np.array([5])).pooled for p in (params, moved))
    assert (np.abs(before - after).max() > 1e-3) == through


def test_parts_by_argument():
    """In place of the row's, with the examples that their objectives need; a dual encoder, and scale paper."""
    config = small("text=bert,image=vit,interaction=cross,objectives=match_hard+text_words+contrastive,debug,image_size=32")
    parts = recipe.make(config)
    assert type(parts.model.interaction).__name__ == "Cross" and type(parts.model.image).__name__ == "ViT"
    assert set(parts.objectives) == {"match_hard", "text_words", "contrastive"} and "masked" in parts.batches[0]
    config = get_config("simvlm,interaction=none,decoder=none,objectives=contrastive,text=clip")
    assert "interaction" not in config.model and "decoder" not in config.model and config.model.text.name == "clip"
    config = get_config("lxmert,scale=paper")
    assert (config.optimizer.learning_rate, config.batch_size, config.model.text.layers) == (1e-4, 256, 9)


@pytest.mark.parametrize(
    ("row", "changes", "told"),
    [
        ("clip", {"objectives.words": {}}, "objectives.words needs fuse, but the model Composed offers only"),
        ("vilt", {"objectives.contrastive": {}}, "objectives.contrastive needs scale"),
        ("vilt", {"examples.masked": "none"}, "objectives.words reads masked_words"),
        ("vilt", {"examples.other": "none"}, "reads match, which the examples"),
        ("vilt", {"model.interaction.name": "dual"}, "config.model.interaction.name"),
        ("lxmert", {"objectives.next_words": {}}, "objectives.next_words would be told what to write by the words of a BERT"),
    ],
)
def test_what_a_row_lacks_is_named_before_anything_is_built(row, changes, told):
    config = small(f"{row},debug,image_size=32")
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        place = config
        for part in section.split("."):
            place = place[part]
        place[key] = value
    with pytest.raises(UserError, match=told):
        recipe.make(config)


def test_which_rows_are_evaluated_by_what_they_draw():
    assert [row for row in ROWS if "drawing" in get_config(row).evaluators] == ["dalle", "x_lxmert", "flava"]
