"""The benchmark: the arithmetic of its figures, what it writes, and the bytes that simulated devices hold."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tests.train import small_config
from xmodal_jax import malloc
from xmodal_jax.draw.blocks import Table
from xmodal_jax.errors import UserError
from xmodal_jax.measure import benchmark, figures, scaling

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_figures_of_a_step():
    matrix = {"flops_per_s": benchmark.spread([1e12, 4e12, 2e12]), "datasheet_flops_per_s": 8e12}
    found = benchmark.rates(0.5, batch_size=32, tokens=10, flops=4e12, devices=4, matrix=matrix)
    assert found["examples_per_s"] == 64 and found["tokens_per_s"] == 640
    assert found["tflops_per_s_per_device"] == 2, "4e12 in half a second over 4 devices"
    assert found["mfu_of_measured"] == 0.5 and found["mfu_of_datasheet"] == 0.25, "of the best measured rate, 4e12"
    found = benchmark.rates(0.5, 32, 10, 4e12, 4, matrix | {"datasheet_flops_per_s": None})
    assert found["mfu_of_datasheet"] is None


def test_spread_and_stretches():
    assert benchmark.spread([4, 1, 2, 3, 5]) == {"median": 3, "q1": 2, "q3": 4, "min": 1, "max": 5, "count": 5}
    assert benchmark.stretch_lengths(30) == [6] * 5 and benchmark.stretch_lengths(2) == [2]
    for steps in range(1, 50):
        lengths = benchmark.stretch_lengths(steps)
        assert sum(lengths) == steps and max(lengths) - min(lengths) <= 1 and (steps < 3 or min(lengths) >= 3)


def test_loading_is_compared_by_sums_medians_and_rounds():
    found = benchmark.compare(
        [np.array([1.0, 1.0, 4.0]), np.array([1.0, 1.0])], [np.array([2.0, 2.0, 2.0]), np.array([1.0, 9.0])]
    )
    assert found["ratio_of_sums"] == 8 / 16 and found["ratio_of_medians"] == 1 / 2
    assert found["held_steps_per_s"] == 5 / 8 and found["loaded_steps_per_s"] == 5 / 16
    assert found["ratio_by_round"]["max"] == 1 and found["ratio_by_round"]["min"] == 0.2
    assert found["held_seconds"] == [[1, 1, 4], [1, 1]]


@pytest.mark.parametrize("slow", ["loader", "device"])
def test_a_step_lasts_as_long_as_the_slower_of_device_and_loader(slow, monkeypatch):
    """A clock that we set: batches come every 3 s or steps take 3 s, the other 1 s; on either side none is counted twice."""
    loader, device = (3.0, 1.0) if slow == "loader" else (1.0, 3.0)
    now, done, sent, waited = [0.0], [0.0], [], []
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    class Loss:
        def __init__(self, ready):
            self.ready = ready

        def block_until_ready(self):
            now[0] = max(now[0], self.ready)
            waited.append(self)

    def supply():
        now[0] += loader
        return f"batch {len(sent)}"

    def step(state, batch):
        assert batch == f"batch {state}"
        done[0] = max(done[0], now[0]) + device
        sent.append(len(waited))
        return state + 1, {"loss": Loss(done[0])}

    state, seconds = benchmark.stretch(step, 0, supply, count=5)
    np.testing.assert_array_equal(seconds, [3.0] * 5)
    assert state == len(sent) == benchmark.SETTLE + 5 + benchmark.IN_FLIGHT
    assert max(number - waits for number, waits in enumerate(sent)) == benchmark.IN_FLIGHT, (
        "most in flight when another is sent"
    )
    assert benchmark.stretch(step, state, supply, count=1)[1].shape == (1,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('%a = f32[2] custom-call(%b), custom_call_target="__cudnn$fmhaSoftmax"', "cuDNN"),
        ('%a = custom-call(%b), custom_call_target="tpu_custom_call", metadata={op_name="flash_attention"}', "Pallas"),
        ('%a = custom-call(%b), custom_call_target="tpu_custom_call", metadata={op_name="norm"}', "XLA"),
        ('%a = dot(%b, %c), metadata={op_name="attention/dot"}', "XLA"),
    ],
)
def test_attention_is_told_from_the_program(text, told):
    assert benchmark.attention(text).startswith(told)


def test_text_of_figures():
    assert [figures.size(count) for count in (None, 0, 1023, 1536, 3 << 20, 5 << 30)] == [
        "-", "0 B", "1023 B", "1.5 KiB", "3 MiB", "5 GiB",
    ]  # fmt: skip
    assert figures.percent(0.1234) == "12.3 %" and figures.percent(None) == "-"
    table = Table("Rates", ("name", "value"), [("a|b", "1"), ("longer", "2")], "By nobody.")
    assert figures.markdown("All", [table]).splitlines() == [
        "# All", "", "## Rates", "", "| name | value |", "| --- | --- |", "| a/b | 1 |", "| longer | 2 |", "", "By nobody.",
    ]  # fmt: skip
    assert figures.console([table]).splitlines() == ["", "Rates", "name    value", "a|b     1", "longer  2", "By nobody."]


@pytest.mark.slow
@pytest.mark.gate
def test_a_benchmark_of_a_tiny_config(monkeypatch, tmp_path):
    monkeypatch.setitem(benchmark.MATMUL, "cpu", 64)
    config = small_config.get_config()
    config.batch_size, config.optimizer.name = 2, "adamw"  # which keeps two moments of every parameter
    kept = []
    found = benchmark.measure(config, 3, 1, str(tmp_path), keep=lambda found: kept.append(dict(found)))
    assert kept == [found | {"costliest_operations": None}]
    assert json.loads(json.dumps(found)) == found, "plain numbers and texts alone"
    step, built, loading = found["step"], found["program"], found["loading"]
    assert step["count"] == 3 and 0 < step["min"] <= step["q1"] <= step["median"] <= step["q3"]
    assert step["examples_per_s"] == pytest.approx(2 / step["median"])
    assert step["tokens_per_s"] == pytest.approx(step["examples_per_s"] * built["tokens_per_example"])
    assert step["tflops_per_s_per_device"] == pytest.approx(built["flops_per_step"] / step["median"] / 1e12)
    assert built["batch_size"] == 2 and built["dtype"] == "float32" and built["attention"].startswith("XLA")
    assert built["parameters"] > 1e5 and built["flops_per_step"] > 1e7 and built["compile_seconds"] > 0
    assert found["matrix_product"]["side"] == 64 and found["matrix_product"]["datasheet_flops_per_s"] is None
    assert found["memory"]["device_peak_bytes"] is None and found["memory"]["process_peak_bytes"] > 1e8
    assert found["memory"]["page_faults_per_step"] >= 0 and found["machine"]["allocator"] == malloc.in_use()
    assert found["memory"]["planned_arguments_bytes"] > 12 * built["parameters"], "parameters and two moments"
    assert all(rate > 0 for rate in found["input_pipeline"].values())
    assert [len(seconds) for seconds in loading["loaded_seconds"]] == [3] and loading["ratio_by_round"]["count"] == 1
    operations = found["costliest_operations"]
    assert 0 < len(operations) <= 10 and sum(op["share"] for op in operations) <= 1 + 1e-9
    tables = benchmark.tables(found)
    text = figures.markdown("Benchmark", tables) + figures.console(tables)
    for said in ("step time", "MFU", "speed kept, sums", "loader alone", "page faults a step", operations[0]["operation"]):
        assert f"| {said} |" in text
    for table in tables:
        assert all(len(row) == len(table.headers) and all(isinstance(cell, str) for cell in row) for row in table.rows)


def test_the_state_is_weighed_by_the_rules_of_an_axis():
    leaves = [(P("fsdp", "tensor"), 80, 40), (P(None, "fsdp"), 40, 20), (P(), 8, 8)]  # fsdp and tensor are said to be 2 and 1
    assert scaling.weigh(leaves, "fsdp", 2) == {
        "state_bytes": 68, "expected_state_bytes": 68, "split_bytes": 60, "expected_split_bytes": 60,
    }  # fmt: skip
    assert scaling.ruled("params/logits/kernel", (16, 3)) == P("fsdp", "tensor"), "also where 3 cannot be split"
    assert scaling.ruled("params/logits/bias", (3,)) == P() and scaling.ruled("step", ()) == P()
    found = scaling.weigh(leaves, "tensor", 4)
    assert found["expected_split_bytes"] == 20 and found["split_bytes"] == 40 and found["expected_state_bytes"] == 68


def test_bytes_that_do_not_fall_as_the_axes_say_are_flagged():
    row = {
        "split_bytes": 1000, "expected_split_bytes": 1000, "state_bytes": 1100, "expected_state_bytes": 1100,
        "batch_bytes": 50, "argument_bytes": 1150,
    }  # fmt: skip
    assert scaling.judge(row) == []
    assert scaling.judge(row | {"split_bytes": 1040}) == [], "within 5 %"
    (flag,) = scaling.judge(row | {"split_bytes": 8000})
    assert flag == "the arrays that rules split: 7.812 KiB a device, 1000 B expected"
    (flag,) = scaling.judge(row | {"argument_bytes": 1300})
    assert flag.startswith("the executable's arguments")


def test_meshes_that_do_not_divide_are_listed_with_the_reason():
    one = {"scaling": "strong", "axis": "tensor", "devices": 1, "batch_size": 8, "flags": [], "collectives": {}}
    one |= {"state_bytes": 4096, "split_bytes": 3072, "temporary_bytes": 8192}
    reduced = {"count": 2, "bytes": 512, "sent_bytes": 1024}
    two = one | {"devices": 2, "state_bytes": 2560, "split_bytes": 1536, "flags": ["odd"]}
    two["collectives"] = {"all-reduce": reduced}
    four = {name: one[name] for name in ("scaling", "axis", "batch_size", "flags")} | {"devices": 4, "refused": "No 4 ways."}
    table, _ = scaling.tables({"parameters": 10, "gradient_bytes": 40, "rows": [one, two, four]})
    assert table.headers[-3:] == ("all-reduce", "sent", "check")
    assert table.rows == [
        ("tensor", "1", "8", "4 KiB", "1.000", "1 KiB", "8 KiB", "1.000", "0 B", "0 B", "as the axes say"),
        ("tensor", "2", "8", "2.5 KiB", "0.625", "1 KiB", "8 KiB", "1.000", "512 B", "1 KiB", "odd"),
        ("tensor", "4", "8", *["-"] * 7, "refused"),
    ]
    assert table.note.endswith("No 4 ways.")


def test_a_batch_that_the_devices_cannot_share_is_refused():
    config = runpy.run_path(os.path.join(ROOT, "configs", "pretrain.py"))["get_config"]("debug")
    with pytest.raises(UserError, match="--devices=8: there are 4"):
        scaling.check_sizes(config, 8, ("data",), there=4)
    with pytest.raises(UserError, match="did you mean 'tensor'"):
        scaling.check_sizes(config, 1, ["tenser"], there=1)
    config.batch_size = 3
    with pytest.raises(UserError, match="config.batch_size=3 must be a multiple of --devices=2"):
        scaling.check_sizes(config, 2, ("data",), there=2)


@pytest.mark.slow
def test_scaling_over_simulated_devices(tmp_path):
    """The command: state over fsdp falls to a quarter, in the strong and the weak case, and JSON and Markdown say so."""
    command = [
        sys.executable, "-m", "xmodal_jax.bench", "--config=configs/pretrain.py:debug,image_size=32,lang=en", "--devices=4",
        "--axes=fsdp", f"--json={tmp_path}/out/bench.json", f"--markdown={tmp_path}/bench.md",
        *(f"--config.objectives.{name}.weight=0.0" for name in ("generation", "contrastive", "naming")),  # compiles sooner
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    rows = {(row["scaling"], row["axis"], row["devices"]): row for row in found["rows"]}
    assert len(rows) == 6 and found["config"]["batch_size"] == 8 and found["gradient_bytes"] == 4 * found["parameters"]
    one, four = rows["strong", "fsdp", 1], rows["strong", "fsdp", 4]
    assert one["split_bytes"] > 0.9 * one["state_bytes"] and one["collectives"] == {}
    assert four["split_bytes"] == pytest.approx(one["split_bytes"] / 4, rel=0.05)
    assert four["state_bytes"] < 0.35 * one["state_bytes"]
    moved = sum(kind["bytes"] for kind in four["collectives"].values())
    assert moved > found["gradient_bytes"], "parameters are gathered, gradients are added up"
    assert [rows["weak", "fsdp", count]["batch_size"] for count in (1, 2, 4)] == [2, 4, 8]
    assert rows["weak", "fsdp", 4] == four | {"scaling": "weak"}, "with all devices both are the config's batch"
    assert all(row["flags"] == [] for row in found["rows"])
    text = (tmp_path / "bench.md").read_text()
    assert "## Strong scaling" in text and "## Weak scaling" in text and "| as the axes say |" in text
    assert "Weak scaling" in done.stdout
