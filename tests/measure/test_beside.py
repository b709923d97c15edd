"""The comparison with PyTorch: both sides compute the same, and ratios are of turns."""

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import load_pretrained
from xmodal_jax.measure import figures
from xmodal_jax.measure.beside import compare
from xmodal_jax.measure.beside.cases import CASES, Case

BERT = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 1200}
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": 1200, "n_positions": 32}
TINY = {
    "train-vit": Case("train", "vit", {**BERT, "image_size": 32, "patch_size": 8}, rows=2),
    "train-gpt2": Case("train", "gpt2", GPT2, rows=2, length=8),
    "forward-bert": Case("forward", "bert", BERT, length=8),
    "beam-gpt2": Case("beam", "gpt2", GPT2, length=4, written=5),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name == "train-vit" else name for name in TINY])
def test_both_sides_do_the_same(name, tmp_path):
    torch = pytest.importorskip("torch")
    from xmodal_jax.measure.beside import jax_side, pytorch_side

    case = TINY[name]
    torch.manual_seed(0)
    more = {} if case.family == "gpt2" else {"add_pooling_layer": False}
    model = pytorch_side.MODELS[case.family](case.config(), **more)
    model.save_pretrained(tmp_path)
    ours, theirs = jax_side.make(case, load_pretrained(tmp_path).params), pytorch_side.make(case, model)
    results = [(ours(), theirs()) for _ in range(3)]
    for mine, other in results:
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    if case.task == "train":
        assert results[-1][0] < results[0][0], "it learns"


def test_ratios_are_of_turns(monkeypatch):
    """Processes that answer with times we chose: 2, 1, 1 s of ours beside 1, 2, 1 s of theirs."""
    script = """
import json, sys
times = iter(json.loads(sys.argv[1]))
print(json.dumps({"allocator": "it"}), flush=True)
for line in sys.stdin:
    value = next(times)
    print(json.dumps({"seconds": [value, value / 2, value * 9][: int(line)], "page_faults": 3}), flush=True)
"""
    asked = {compare.OURS: [2, 1, 1], compare.PLAIN: [1, 2, 1], compare.SAME: [4, 4, 4]}

    @contextlib.contextmanager
    def started(name, side):
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", script, json.dumps(asked[side])]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
            yield child
            child.stdin.close()

    monkeypatch.setattr(compare, "started", started)
    monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: True)
    kept = []
    found = compare.measure(["beam-gpt2"], rounds=3, runs=3, keep=kept.append)
    case = found["cases"]["beam-gpt2"]
    assert kept == [found] and json.loads(json.dumps(found)) == found
    assert case["ratios"] == [2, 0.5, 1] and case["ratio"] == 1 and case["mark"] == CASES["beam-gpt2"].mark == 0.6
    assert case["sides"][compare.SAME]["seconds"] == [4, 4, 4], "the median of a turn"
    (table,) = compare.tables(found)
    assert table.rows[0] == ("beam-gpt2", "ours", "1000 ms", "3", "it", "1.00", "2.00, 0.50, 1.00", "0.6")
    assert figures.markdown("", [table]).count("| PyTorch") == 2

    asked[compare.PLAIN] = [1]  # its process ends too soon
    with pytest.raises(RuntimeError, match="PyTorch of beam-gpt2 ended: (.|\n)*StopIteration"):
        compare.measure(["beam-gpt2"], rounds=2, runs=1)


def test_what_cannot_be_compared_is_refused(monkeypatch):
    with pytest.raises(UserError, match="did you mean 'beam-gpt2'"):
        compare.measure(["beam-gpt"], 1, 1)
    monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'xmodal_jax\[beside\]'"):
        compare.measure([], 1, 1)
