"""What the fusion methods cost: laws on made-up and on counted figures, the tables, the page, the command's mistakes."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.measure import figures, fusion_cost
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.flops import count_flops
from xmodal_jax.models.fusion import FUSIONS


@pytest.fixture(scope="module")
def measured():
    """(figures, those that were kept before the comparison) of tiny sizes, nothing timed."""
    kept = []
    found = fusion_cost.measure((16, 8), (8,), batch=2, steps=0, keep=kept.append, example=((5, 9), 8))
    return found, kept


def test_every_method_is_measured_everywhere(measured):
    found, kept = measured
    assert kept == [found | {"example": None}]
    assert json.loads(json.dumps(found)) == found, "plain numbers and texts alone"
    rows = {(row["method"], row["tokens"], row["width"]): row for row in found["rows"]}
    assert set(rows) == {(method, n, 8) for method in (*FUSIONS, "naive") for n in (8, 16)}
    for (method, n, d), row in rows.items():
        assert row["flops"] > 0 and row["product_flops"] > 0 and row["memory_bytes"] > 0 and row["seconds"] is None
        assert row["tile"] == (n if method in ("evc", "ume") else None), "pairs this few are one tile"
        naive = rows["naive", n, d]
        assert naive["product_flops"] > 24 * n * n * d * d, "a product [N^2, 4 D] x [4 D, D] and two more in its gradient"
        if method != "naive":
            assert naive["flops"] > row["flops"] and naive["memory_bytes"] > row["memory_bytes"]
    assert set(found["laws"]) == {*FUSIONS, "naive"}
    assert found["laws"]["ume"]["flops"]["largest_error"] is None, "two N tell no law"
    example = found["example"]
    assert (example["tokens"], example["width"], example["batch"]) == ([5, 9], 8, 2)
    assert [row["method"] for row in example["rows"]] == ["ume", "evc", "naive"]


def test_tables_and_page(measured, tmp_path):
    found, _ = measured
    found = found | {"rows": [row | {"width": d} for d in (8, 16) for row in found["rows"]]}  # as if there were two widths
    found["laws"] = {method: law | {"memory": 2 * law["memory"]} for method, law in found["laws"].items()}
    for figures_found in (found, found | {"example": None}):
        tables = fusion_cost.tables(figures_found)
        for table in tables:
            assert all(len(row) == len(table.headers) and all(isinstance(cell, str) for cell in row) for row in table.rows)
        text = figures.markdown("Cost", tables) + figures.console(tables)
        for said in ("## GFLOP, N x D", "| method | 8 x 16 | 16 x 16 | 16 x 8 |", "## Law of the memory", "| naive |"):
            assert said in text
        assert ("N = 5 x 9, D = 8, batch 2" in text) == (figures_found is found)
        path = tmp_path / "report.html"
        fusion_cost.page(figures_found, path)
        page = path.read_text()
        drawing = page[page.index("<svg") : page.index("</svg>") + 6]
        words = " ".join(ET.fromstring(drawing).itertext())
        for said in ("GFLOP, D = 16", "GFLOP, N = 16", "memory in MiB, D = 16", *FUSIONS, "naive"):
            assert said in words
        assert "Training memory, N x D" in page and 'src="http' not in page and 'href="http' not in page


def test_what_passes_the_limit_is_not_run_or_on_fewer_rows(monkeypatch):
    model, quick = fusion_cost.Naive(8), FUSIONS["product"]  # which compiles sooner than what it stands for
    monkeypatch.setattr(fusion_cost, "METHODS", {"ume": quick, "evc": quick, "naive": fusion_cost.Naive})
    assert fusion_cost.cost(model, 4, 8, steps=2, limit=1)["seconds"] is None
    _, memory = fusion_cost.plan(*fusion_cost.program(model, (4, 6), 8, batch=2))
    (*ours, naive) = fusion_cost.compare((4, 6), 8, batch=3, steps=1, limit=memory)["rows"]
    assert all(row["timed_batch"] == 3 and row["seconds"] > 0 for row in ours)
    assert naive["timed_batch"] == 2 and naive["seconds"] > 0 and naive["memory_bytes"] > memory


def test_products_of_the_naive_formula_alone_grow_with_n_squared_d_squared():
    """The law of what is counted: all but a hundredth of the naive formula's operations, nothing of ours."""
    shares = {}
    for name in ("naive", "ume"):
        rows = []
        for n, d in ((n, d) for d in (32, 64, 128) for n in (32, 64, 128)):
            gradient, shapes = fusion_cost.program(fusion_cost.METHODS[name](d), (n, n), d)
            rows.append({"tokens": n, "width": d, "flops": count_flops(gradient, *shapes)})
        law = fusion_cost.flops_law(rows)
        assert law["largest_error"] < 1e-3 and sum(law["shares"].values()) == pytest.approx(1, abs=1e-3)
        shares[name] = law["shares"]
    assert shares["naive"]["N^2 D^2"] > 0.98
    assert abs(shares["ume"]["N^2 D^2"]) < 1e-3 and shares["ume"]["N^2 D"] > 0.1


def test_laws_of_made_up_figures():
    rows = [
        {"tokens": n, "width": d, "flops": 3 * n * n * d + 5 * n * d * d, "memory_bytes": 1000 + 8 * n * d, "tile": None}
        for d in (4, 8, 16)
        for n in (16, 32, 64)
    ]
    law = fusion_cost.flops_law(rows)
    assert law["largest_error"] < 1e-9
    wanted = {"N^2 D": 3 * 64 / (3 * 64 + 5 * 16), "N D^2": 5 * 16 / (3 * 64 + 5 * 16)}
    assert law["shares"] == pytest.approx({term: wanted.get(term, 0) for term in fusion_cost.TERMS}, abs=1e-9)
    for law, width in zip(fusion_cost.memory_laws(rows), (4, 8, 16), strict=True):
        assert law == pytest.approx(
            {"width": width, "m0": 1000, "m1": 8 * width, "largest_error": 0, "r2": 1, "power": law["power"]}, abs=1e-6
        )
    for row in rows:
        row["memory_bytes"] = row["tokens"] ** 2
    assert all(law["power"] == pytest.approx(2) and law["largest_error"] > 0.1 for law in fusion_cost.memory_laws(rows))
    for row, tile in zip(rows, (16, 8, 4) * 3, strict=True):
        row |= {"tile": tile, "memory_bytes": 10 * row["tokens"] + 1000 * (row["tokens"] > 16)}
    assert all(law["r2"] < 1 - 1e-6 for law in fusion_cost.memory_laws(rows)), "two N that take several tiles are too few"
    more = [row | {"tokens": 128, "memory_bytes": 2280, "tile": 2} for row in rows[2::3]]
    more = sorted(rows + more, key=lambda row: (row["width"], row["tokens"]))
    assert [law["m0"] for law in fusion_cost.memory_laws(more)] == pytest.approx([1000] * 3)
    constant = fusion_cost.memory_laws([row | {"memory_bytes": 7} for row in rows[:3]])
    assert constant[0]["r2"] == 1 and constant[0]["power"] == 0


def test_the_naive_formula_pair_by_pair(rng):
    sources = [
        Encoded(jnp.asarray(rng.normal(size=(2, n, 4)), jnp.float32), jnp.asarray(rng.random((2, n)) < 0.8).at[:, 0].set(True))
        for n in (3, 5)
    ]
    model = fusion_cost.Naive(8, groups=2)
    params = random_params(model, sources)
    p = {name: {k: np.asarray(v, np.float64) for k, v in of.items()} for name, of in params.items() if name != "query"}
    h = []
    for m, source in enumerate(sources):
        y = np.asarray(source.x, np.float64) @ p[f"map_{m}"]["kernel"] + p[f"map_{m}"]["bias"]
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
        h.append(y * p[f"norm_{m}"]["scale"] + p[f"norm_{m}"]["bias"])
    for row in range(2):
        vectors = np.array([
            np.tanh(np.concatenate([a, b, a - b, a * b]) @ p["mix"]["kernel"] + p["mix"]["bias"])
            for i, a in enumerate(h[0][row]) if sources[0].mask[row, i]
            for j, b in enumerate(h[1][row]) if sources[1].mask[row, j]
        ])  # fmt: skip
        weights = np.exp(vectors @ np.asarray(params["query"], np.float64))
        weights /= weights.sum(0)
        wanted = np.einsum("pg,pgd->gd", weights, vectors.reshape(len(vectors), 2, 4)).reshape(-1)
        np.testing.assert_allclose(model.apply({"params": params}, sources)[row], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_command_refuses_simulated_devices():
    command = [sys.executable, "-m", "xmodal_jax.bench", "--fusion", "--devices=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "--devices, --fusion: each is a benchmark of its own" in done.stderr
