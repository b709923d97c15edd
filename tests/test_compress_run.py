"""Algorithm 1 as a run of seconds, killed in either phase; the smaller run that it leaves; the cells of its table."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs.compress import get_config
from tests import runs, test_caption_run, test_search_run, test_vqa_run, test_zoo_run
from xmodal_jax import api
from xmodal_jax.compress.hypernetwork import logits_of
from xmodal_jax.compress.structure import constrained, kept
from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import leaves
from xmodal_jax.systems import compressed, recipe
from xmodal_jax.systems.model import build_model
from xmodal_jax.systems.starting import parameters
from xmodal_jax.tables import share_prune
from xmodal_jax.train import loop
from xmodal_jax.train.progress import read_jsonl
from xmodal_jax.train.workdir import run_config

TEXTS = ["a dog", "two red cars and a cat"]


@pytest.fixture(scope="module")
def first(trained):
    """The folder of the run that is compressed."""
    return trained(test_search_run.small())[0]


def small(arguments=""):
    """Two epochs of a step of each kind, then two of fine-tuning; of a model from nothing, unless init says otherwise."""
    config = get_config(f"debug,image_size=32,even=2,keep=0.7{arguments}")
    if "init=" not in arguments:
        config = test_search_run.shrunk(config)
        config.ema = 0.0
    config.total_steps, config.checkpoint_every, config.log_every = 6, 1, 1
    if "compress" in config:
        config.compress.update(epochs=2, weight_steps=1, structure_steps=1, alignment_weight=1e-3)
    return config


@pytest.fixture(scope="module")
def done(trained):
    """(folder of a compression's finished run, not to be changed; its results)."""
    return trained(small())[:2]


def test_results_tell_what_became_of_the_model(done):
    folder, results = done
    assert results["compress/kept"] == pytest.approx(0.7, rel=0.01)
    assert results["compress/masked_difference"] <= 1e-5
    assert sum(results[f"compress/{name}"] for name in ("kept", "shared", "pruned")) == pytest.approx(1, abs=1e-5)
    for name in ("parameters", "file_ratio", "latency_ratio/image", "latency_ratio/text"):
        assert np.isfinite(results[f"compress/{name}"]), name
    assert results["compress/parameters"] < results["compress/parameters_before"]
    for name in ("image", "text"):
        assert 0 < results[f"compress/memory_ratio/{name}/loaded"] < 1
        assert results[f"compress/memory_ratio/{name}/running"] > 0 < results[f"compress/latency_ratio/{name}/loaded/8"]
    lines = [line for line in read_jsonl(f"{folder}/metrics.jsonl") if "train/loss" in line]
    assert [sorted({"train/kept", "train/alignment"} & set(line)) for line in lines] == [
        ["train/alignment"], ["train/kept"], ["train/alignment"], ["train/kept"], [], [],
    ]  # fmt: skip
    with open(f"{folder}/report.html", encoding="utf-8") as file:
        page = file.read()
    assert "shared across modalities" in page and "share of the weights that stays" in page and "Full and compressed" in page


def test_each_phase_trains_its_own(done):
    """W alone in the first step, theta and the decision in the second, and neither in the last ones."""
    states = {}
    parts = recipe.make(small())
    with runs.compiled_once(), jax.set_mesh(loop.layout.make_mesh(parts.config.mesh)) as mesh:
        del mesh
        mesh = loop.layout.make_mesh(parts.config.mesh)
        make_state, shapes = loop.state_maker(parts, mesh)
        step, *_ = loop.compile_step(parts, mesh, shapes)
        state = make_state()
        batches = parts.batches.iterate(0, parts.loader)
        for number in range(6):
            states[number] = jax.device_get(state)
            state, _ = step(state, jax.device_put(next(batches)), number)
    for number in range(5):
        before, after = (leaves({"p": states[n].params, "o": states[n].opt_state}) for n in (number, number + 1))
        moved = {path for path in before if not same(before[path], after[path])}
        structural = number in (1, 3)
        assert any(path.startswith("p/compress/theta") for path in moved) == structural
        assert any(path.startswith("o/weights") for path in moved) == (not structural)
        if number:  # the learning rate begins at 0
            assert any(path.startswith("p/image") for path in moved) == (not structural)
        assert not any(path.startswith("p/compress/z") for path in moved)
        if not structural:
            assert not any("decision" in path for path in moved)
    decision, pair = states[5].params["compress"]["decision"], parts.compression.pair
    jax.tree.map(np.testing.assert_array_equal, decision, jax.device_get(constrained(decision, pair)))
    assert float(kept(decision, pair)) == pytest.approx(0.7, rel=0.01)


@pytest.mark.parametrize(("prune", "further"), [("true", 3.0), ("false", 0.0)])
def test_sharing_begins_further_away_than_pruning(prune, further):
    compression = recipe.make(small(f",prune={prune}")).compression
    params = compression.extended(jax.random.PRNGKey(0), {})
    learned = params["compress"]
    own, plain = compression.logits(params), logits_of(learned["theta"], learned["z"], compression.pair)
    for tower in own:
        jax.tree.map(np.testing.assert_array_equal, own[tower]["m"], plain[tower]["m"])
        jax.tree.map(
            lambda s, other: np.testing.assert_allclose(s - other, further, atol=1e-5), own[tower]["s"], plain[tower]["s"]
        )


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.parametrize("stop", [1, 2])
def test_stopped_in_either_phase_it_goes_on_bit_for_bit(done, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(recipe.compressed, "conclude", lambda *_: ({}, (), ()))  # looked at elsewhere
    with runs.compiled_once():
        assert loop.train(recipe.make(small()), str(tmp_path), lambda step: step == stop) is None
        assert loop.train(recipe.make(small(), str(tmp_path)), str(tmp_path)) is not None

    def losses(folder):
        lines = [line for line in read_jsonl(f"{folder}/metrics.jsonl") if "train/loss" in line]
        return [{name: line[name] for name in line if name.startswith("train/") and "_per_s" not in name} for line in lines]

    assert losses(tmp_path) == losses(done[0])


@pytest.mark.slow
def test_what_it_leaves_is_a_run_like_every_other(done, tmp_path, command):
    """Opened, evaluated, stored and read back, trained further: always small, always what the masked model computes."""
    results, folder = done[1], str(tmp_path / "run")
    shutil.copytree(done[0], folder)
    pictures = list(np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8))
    masked, model = api.load(folder), api.load(f"{folder}/compressed")
    found = model.similarity(pictures, TEXTS)
    np.testing.assert_allclose(found, masked.similarity(pictures, TEXTS), atol=1e-5)
    model.save_pretrained(tmp_path / "whole")
    np.testing.assert_array_equal(api.load(tmp_path / "whole").similarity(pictures, TEXTS), found)
    model.save_pretrained(tmp_path / "eight", weights="int8")
    np.testing.assert_allclose(api.load(tmp_path / "eight").similarity(pictures, TEXTS), found, atol=0.03)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "eight")]
    assert sizes[1] < 0.6 * sizes[0]  # norms and positions weigh something in a model as small as this
    size = (tmp_path / "whole" / "model.safetensors").stat().st_size
    assert size < 4 * results["compress/parameters"] + 20_000
    command("evaluate", f"--workdir={folder}/compressed")
    (written,) = (tmp_path / "run" / "compressed" / "evaluations").glob("val-step*/results.json")
    again = json.loads(written.read_text())
    assert again["split"] == "val" and f"step{again['step']}" in str(written) and again["examples"] > 0
    for name in ("retrieval/mean_recall", "retrieval/gap"):
        assert again[name] == pytest.approx(results[name], abs=1e-3), name
    config = run_config(f"{folder}/compressed")
    config.init, config.total_steps = f"{folder}/compressed", 2
    api.train(config, str(tmp_path / "more"))
    parts = recipe.make(config, str(tmp_path / "more"))
    params, _ = parameters(parts, str(tmp_path / "more"))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == results["compress/parameters"]


OTHERS = {  # what their predictors tell of pictures
    "caption": (test_caption_run.small, lambda model, pictures: model.look(pictures[0], "a dog")[1]),
    "zoo": (lambda: test_zoo_run.small("lxmert,debug,image_size=32"), lambda model, pictures: model.match(pictures, "a dog")),
    "vqa": (
        lambda: test_vqa_run.small("image=vit,text=bert"),
        lambda model, pictures: model.grad_cam(model.as_example(pictures[0]), "what is it?", layer=0),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("system", OTHERS)
def test_captioners_and_answerers_are_compressed_alike(trained, tmp_path, system):
    made, shown = OTHERS[system]
    folder, config = str(tmp_path), get_config(f"debug,even=2,keep=0.7,init={trained(made())[0]}")
    config.total_steps, config.checkpoint_every, config.log_every = 6, 6, 6
    config.compress.update(epochs=2, weight_steps=1, structure_steps=1)
    results = api.train(config, folder)
    assert results["compress/kept"] == pytest.approx(0.7, rel=0.01) and results["compress/masked_difference"] <= 1e-5
    models = [api.load(place) for place in (folder, f"{folder}/compressed")]
    size = config.examples.image_size
    pictures = list(np.random.default_rng(3).integers(0, 256, (2, size, size, 3)).astype(np.uint8))
    masked, small = (shown(model, pictures) for model in models)
    np.testing.assert_allclose(small, masked, atol=1e-4)
    if system == "caption":
        assert models[0].caption(pictures) == models[1].caption(pictures)
    elif system == "vqa":
        assert [models[0].answer(one, "what is it?") for one in pictures] == [
            models[1].answer(one, "what is it?") for one in pictures
        ]


@pytest.mark.slow
def test_methods_that_learn_nothing_decide_at_the_start(first):
    for method in ("magnitude", "random", "layers"):
        parts = recipe.make(small(f",method={method},init={first}"))
        mesh = loop.layout.make_mesh(parts.config.mesh)
        with jax.set_mesh(mesh):
            state = loop.state_maker(parts, mesh)[0]()
        share = float(kept(state.params["compress"]["decision"], parts.compression.pair))
        assert share == pytest.approx(0.7, rel={"random": 0.01, "magnitude": 0.03, "layers": 0.3}[method]), method
        assert share < 1 and [stage.name for stage in parts.stages.stages] == ["fine-tuning"]


def test_a_run_can_start_from_a_run_as_it_is(trained, first):
    results = trained(test_search_run.small())[1]
    config = small(f",method=full,init={first}")
    assert "compress" not in config
    parts = recipe.make(config)
    mesh = loop.layout.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        params = loop.state_maker(parts, mesh)[0]().params
    there, _ = parameters(build_model(run_config(first), kept=f"{first}/model"), first)  # its moving average
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), jax.device_get(there))
    before = compressed.accuracy_before(parts)
    assert set(before) == {f"before/retrieval/{name.partition('/')[2]}" for name in results if name.startswith("retrieval")}


@pytest.mark.parametrize(
    ("arguments", "changes", "told"),
    [
        (",method=hypernet", {}, "did you mean 'hypernetwork'"),
        ("", {"compress.keep": 1.5}, "config.compress.keep=1.5"),
        ("", {"total_steps": 4}, "Algorithm 1 takes 4"),
        ("", {"ema": 0.5}, "config.ema does not go together"),
        ("", {"model.image.width": 8}, "does not fit this model"),
    ],
)
def test_mistakes_are_named(first, arguments, changes, told):
    with pytest.raises(UserError, match=told):
        config = small(f"{arguments},init={first}")
        config.update_from_flattened_dict(changes)
        parts = recipe.make(config)
        mesh = loop.layout.make_mesh(config.mesh)
        with jax.set_mesh(mesh):
            loop.state_maker(parts, mesh)[0]()


def test_what_was_compressed_is_not_compressed_again(done):
    config = small(f",init={done[0]}/compressed")
    with pytest.raises(UserError, match="compressed already"):
        recipe.make(config)


def test_a_small_dense_model_of_the_table_has_as_many_weights():
    config = test_search_run.get_config("")
    for p in share_prune.SHARES:
        changes = share_prune.small(config, p)
        for name in ("image", "text"):
            tower = config.model[name]
            width, ratio = changes[f"model.{name}.width"], changes[f"model.{name}.mlp_ratio"]
            before = (4 + 2 * tower.mlp_ratio) * tower.width**2
            assert 4 * width**2 + 2 * width * round(width * ratio) == pytest.approx(p * before, rel=0.01)
            assert width % tower.heads == 0


def test_cells_of_the_table_take_their_steps_from_the_model_that_they_start_from(first, command, monkeypatch):
    makes = []
    monkeypatch.setattr("xmodal_jax.tables.runner.run", lambda grid, config, workdir, seeds, cells, make: makes.append(make))
    command("reproduce", "--table=share_prune", "--config=configs/search.py", "--config.total_steps=4000")
    config = makes[0](f"keep=0.6,init={first}", "configs/compress.py")
    assert config.total_steps == share_prune.further_steps(run_config(first).total_steps)
    assert makes[0]("").total_steps == 4000


@pytest.mark.slow
def test_a_compression_may_learn_from_the_full_model(call):
    """The teacher is the model as it was at the start, and stays so; its loss has the weight that it is given."""
    config = small()
    config.compress.update(distill=2.0, method="random")
    config.optimizer.name = "sgd"
    parts = recipe.make(config)
    mesh = loop.layout.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        make_state, shapes = loop.state_maker(parts, mesh)
        step, *_ = loop.compile_step(parts, mesh, shapes)
        state = make_state()
        first = jax.device_get(state.params)
        batch = jax.device_put(next(parts.batches.iterate(0, parts.loader)))
        weak = parts.compression.used(state.params)
        state, values = step(state, batch)
    vectors = {}
    for name, params in {"teacher": first["compress"]["teacher"], "student": weak}.items():
        image = call(parts.model, "encode_image", params, batch["image"]).pooled
        text = call(parts.model, "encode_text", params, batch["caption"], batch["caption_length"]).pooled
        vectors[name] = np.stack([image, text]).astype(np.float64)
    wanted = 1 - (vectors["teacher"] * vectors["student"]).sum(-1).mean()
    assert values["distillation"] == pytest.approx(wanted, rel=1e-3, abs=1e-5) and wanted > 1e-4
    np.testing.assert_allclose(values["loss"], values["contrastive"] + 2 * values["distillation"], rtol=1e-5)
    own = {name: value for name, value in first.items() if name != "compress"}
    jax.tree.map(np.testing.assert_array_equal, own, first["compress"]["teacher"])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params["compress"]["teacher"]), own)
