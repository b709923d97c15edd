"""What objectives remember: contrast with a teacher and a queue against loops in float64, over steps, parts, restarts."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from configs.zoo import get_config
from tests.train import test_eight_devices
from xmodal_jax.errors import UserError
from xmodal_jax.objectives import contrast, nearest
from xmodal_jax.systems import recipe
from xmodal_jax.train import loop, memory, progress
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.step import State, init_state, make_step

B, P, Q, N = 4, 6, 5, 3
SETTINGS = {"weight": 1.0, "queue": Q, "momentum": 0.75, "distil": 0.4, "ramp": 4}


def units(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


class Recalling:
    has_teacher, step = True, 1

    def __init__(self, memory):
        self.memory, self.kept = memory, {}

    def recalled(self, name):
        return self.memory

    def keep(self, name, memory):
        self.kept[name] = memory

    def scale(self):
        return 7.0


@pytest.fixture
def case(rng):
    rows = {name: units(rng, B, P) for name in ("u", "v", "teacher_u", "teacher_v")}
    rows |= {"present": np.array([1, 1, 0, 1], np.float32), "group": np.array([3, 8, 5, 3], np.float32)}
    queue = {"u": units(rng, Q, P), "v": units(rng, Q, P), "valid": np.array([1, 1, 1, 0, 0], bool)}
    rows |= {f"places_{name}": units(rng, B * N, P).reshape(B, N, P) for name in ("u", "v")}
    rows |= {f"there_{name}": np.float32(rng.random((B, N)) < 0.6) for name in ("u", "v")}
    return rows, queue | {"group": np.array([8, 1, 2, -1, -1], np.float32)}


@pytest.mark.parametrize(
    "settings",
    [
        {"distil": 0.4, "ramp": 4}, {"distil": 0.4}, {"negatives": "queue", "summed": True, "temperature": 0.1},
        {"distil": 0.4, "intra": True}, {"distil": 0.4, "intra": True, "local": True},
    ],
    ids=["albef", "after the ramp", "wenlan", "tcl without places", "tcl"],
)  # fmt: skip
def test_contrast_by_loops(case, settings):
    """Row 2 has no picture; rows 0 and 3 are of one group, row 1's stands in the queue, whose last places are empty."""
    rows, queue = case
    verbs = Recalling(queue)
    loss, metrics = contrast.compare(verbs, rows, SETTINGS | {"distil": 0.0, "ramp": 0} | settings)
    scale, share = 1 / settings.get("temperature", 1 / 7), settings.get("distil", 0.0) * (0.25 if "ramp" in settings else 1.0)
    total, right = 0.0, 0
    within = [("u", "u"), ("v", "v")] if "intra" in settings else []
    for query, key in [("u", "v"), ("v", "u"), *within]:
        keys = np.float64(np.concatenate([rows[f"teacher_{key}"], queue[key]]))
        valid, groups = np.r_[rows["present"] > 0, queue["valid"]], np.r_[rows["group"], queue["group"]]
        for b in np.flatnonzero(rows["present"]):
            counted = [
                k for k in range(B + Q)
                if k == b or (valid[k] and groups[k] != rows["group"][b] and (k >= B or settings.get("negatives") != "queue"))
            ]  # fmt: skip
            scores = [scale * np.float64(rows[query][b]) @ keys[k] for k in counted]
            slow = [scale * np.float64(rows[f"teacher_{query}"][b]) @ keys[k] for k in counted]
            own = share if query != key else 0.0
            told = own * softmax(slow) + (1 - own) * (np.array(counted) == b)
            total -= told @ log_softmax(scores)
            right += (query, key) == ("u", "v") and counted[int(np.argmax(scores))] == b
    ways = 2 + len(within)
    for name in ("u", "v") if "local" in settings else ():
        ways += 1
        places, there = np.float64(rows[f"places_{name}"]), rows[f"there_{name}"] > 0
        for b in np.flatnonzero(rows["present"]):
            scores = scale * places @ np.float64(rows[name][b])  # [B, N]
            others = [c for c in range(B) if rows["present"][c] and rows["group"][c] != rows["group"][b]]
            wrong = np.exp(scores[others][there[others]]).sum()
            own = np.exp(scores[b][there[b]])
            total -= np.log(own / (own + wrong)).sum() / max(len(own), 1)
    np.testing.assert_allclose(float(loss.total), total * (1.0 if settings.get("summed") else 1 / ways), rtol=1e-4)
    assert loss.weight == 3 and metrics["contrast_right"].total == right
    kept = verbs.kept["contrast"]
    for name in ("u", "v"):
        expected = np.concatenate([rows[f"teacher_{name}"][[0, 1, 3]], queue[name]])[:Q]
        np.testing.assert_array_equal(kept[name], expected)
    assert kept["valid"].tolist() == [True] * 5 and kept["group"].tolist() == [3, 8, 3, 8, 1]


def test_without_a_queue_held_out_pairs_are_told_from_each_other(case):
    rows, _ = case
    of = {}
    for negatives in ("queue", "batch"):
        verbs = Recalling(None)
        of[negatives] = contrast.compare(verbs, rows, {"negatives": negatives, "summed": True})[0]
        assert not verbs.kept
    assert float(of["queue"].total) == float(of["batch"].total) > 0.1


@pytest.mark.parametrize("filled", [False, True])
def test_the_nearest_text_by_loops(case, filled):
    """Of those that are there; as long as there is none, a text is its own neighbour."""
    rows, queue = case
    held = {"u": queue["u"], "valid": queue["valid"] & filled}
    verbs = Recalling(held)
    loss, metrics = nearest.compare(verbs, {name: rows[name] for name in ("u", "v", "present")}, {})
    keys = np.float64(queue["u"][:3])
    found = [keys[np.argmax(keys @ u)] if filled else u for u in np.float64(rows["u"])]
    there, total = np.flatnonzero(rows["present"]), 0.0
    scores = 7.0 * np.array(found) @ np.float64(rows["v"]).T
    for way in (scores, scores.T):
        total -= sum(log_softmax(way[b, there])[list(there).index(b)] for b in there) / 2
    np.testing.assert_allclose(float(loss.total), total, rtol=1e-4)
    assert metrics["nearest_right"].total == sum(there[scores[b, there].argmax()] == b for b in there)
    np.testing.assert_array_equal(verbs.kept["nearest"]["u"], np.concatenate([rows["u"][[0, 1, 3]], queue["u"]])[:Q])
    assert verbs.kept["nearest"]["valid"].tolist() == [True] * 3 + [filled] * 2


def test_negatives_that_there_are_not(case):
    with pytest.raises(UserError, match="negatives='near'"):
        contrast.compare(Recalling(case[1]), case[0], {"negatives": "near"})


def small():
    """ALBEF, every objective with what it remembers and whom it follows."""
    config = get_config("albef,debug,image_size=16")
    config.total_steps, config.checkpoint_every, config.log_every, config.batch_size = 5, 2, 1, 4
    config.data.count, config.examples.length, config.examples.tokenizer = 24, 6, "words:1"
    for part in (config.model.image, config.model.text, config.model.interaction):
        part.update({"width": 8, "heads": 2, "layers": 1})
    config.objectives.contrast.update(SETTINGS)
    config.objectives.words.update({"distil": 0.4, "ramp": 2, "momentum": 0.75})
    config.evaluators, config.optimizer.name = {}, "sgd"  # Adam makes steps of gradients that are 0
    config.optimizer.learning_rate = 0.1
    return config


MESHES = {  # name: (sizes, devices, changes to the config)
    "one": ({}, 1, {}), "data x fsdp": ({"data": 4, "fsdp": 2}, 8, {}), "parts": ({}, 1, {"accumulate": 4}),
}  # fmt: skip


def small_config():
    """The same for more devices."""
    config = small()
    config.batch_size = 16
    return config


@pytest.fixture(scope="module")
def parts():
    return recipe.make(small())


def stepped(parts, steps, accumulate=1):
    """[state, ...] from the start on, and the losses."""
    step = jax.jit(make_step(parts.model, parts.objectives, parts.optimizer, parts.schedule, accumulate))
    state, losses = init_state(parts.model, parts.optimizer, parts.example_batch(1), 0, 0.0, objectives=parts.objectives), []
    states = [state]
    for number in range(steps):
        state, report = step(state, parts.batches[number])
        states.append(state)
        losses.append(float(report["loss"]))
    return states, losses


@pytest.fixture(scope="module")
def in_parts(parts):
    """`stepped` in two parts of a batch."""
    return stepped(parts, 3, accumulate=2)


@pytest.mark.slow
@pytest.mark.gate
def test_the_teacher_follows(in_parts):
    states, _ = in_parts
    flat = [memory.leaves(state.params) for state in states]
    expected = {path: np.asarray(leaf) for path, leaf in flat[0].items()}
    for number in (1, 2):
        expected = {path: 0.75 * old + 0.25 * np.asarray(flat[number][path]) for path, old in expected.items()}
    teacher = states[3].memory["teacher"]
    assert set(flat[0]) - set(teacher) == {"log_scale", *(path for path in flat[0] if path.startswith("match_head/"))}
    for path, leaf in teacher.items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, atol=1e-6)
    queue = states[3].memory["of"]["contrast"]
    assert queue["valid"].all()
    np.testing.assert_allclose(np.linalg.norm(queue["v"], axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_parts_of_a_batch_give_the_same(parts, in_parts):
    """Hard negatives that lie in another part among them."""
    states, losses = stepped(parts, 3)
    np.testing.assert_allclose(in_parts[1], losses, rtol=1e-5)
    found, expected = (state.memory for state in (in_parts[0][3], states[3]))
    for path, leaf in expected["teacher"].items():
        np.testing.assert_allclose(found["teacher"][path], leaf, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["of"]["contrast"]["u"], expected["of"]["contrast"]["u"], atol=1e-5)


@pytest.mark.slow
def test_devices_and_parts_remember_the_same(tmp_path):
    """One device, eight that share rows and parameters, four parts of a batch: the same losses, of one step as of the sixth,
    and what one saves the others read."""
    found = test_eight_devices.run(list(MESHES), ["one", "data x fsdp"], tmp_path, 6, "tests.train.test_memory")
    one = found["one"]["history"]
    for name, result in found.items():
        for step, (ours, alone) in enumerate(zip(result["history"], one, strict=True)):
            for metric in ("loss", "contrast", "match_hard", "words"):
                np.testing.assert_allclose(ours[metric], alone[metric], rtol=1e-5, err_msg=f"{name}, step {step}, {metric}")
        assert all(result["restored"].values()), name


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_with_what_it_remembered(parts, tmp_path):
    whole, halves = str(tmp_path / "whole"), str(tmp_path / "halves")
    loop.train(parts, whole)
    loop.train(parts, halves, is_stopped=lambda step: step == 3)
    loop.train(parts, halves)

    def losses(folder):
        return [line["train/loss"] for line in progress.read_jsonl(f"{folder}/metrics.jsonl") if "train/loss" in line]

    assert losses(halves) == losses(whole) and len(losses(whole)) == 5


@pytest.mark.parametrize("remembered", [None, {"teacher": {}, "of": {"contrast": {"group": np.ones(3)}}}])
def test_the_state_of_a_checkpoint_stays_what_older_ones_hold(tmp_path, remembered):
    """What is remembered is an item of its own."""
    state = State(np.int32(2), {"w": np.ones(2)}, {}, None, np.zeros(2), np.int32(-1), remembered)
    checkpoints = Checkpoints(tmp_path, asynchronous=False)
    checkpoints.save(2, state, {"next_step": 2})
    kept = checkpoints.manager.item_metadata(2)
    assert set(kept["state"].tree) == {"step", "params", "opt_state", "ema", "key", "bad_step"}
    assert ("memory" in kept) == (remembered is not None)
    found, _ = checkpoints.restore(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state))
    checkpoints.close()
    assert isinstance(found, State)
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_momenta_that_differ_are_refused(parts):
    asked = {"contrast": SETTINGS, "words": {"distil": 0.4, "momentum": 0.5}}
    with pytest.raises(UserError, match="one number"):
        memory.followed({"teacher": {"a": 1.0}, "of": {}}, {"a": 1.0}, 1, asked)
