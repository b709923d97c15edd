"""launch/gpu_check.sh: without a GPU it refuses at once; every part runs, whatever the others do; one JSON at the end."""

import json
import pathlib
import shlex
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
CHECK = LAUNCH / "gpu_check.sh"
GPU = 'echo "NVIDIA H100 80GB HBM3, 570.1, 81559 MiB"'
FOUND = {
    "config": {"model": {"remat": "dots"}}, "machine": {"device_kind": "NVIDIA H100 80GB HBM3", "jax": "0.10.2"},
    "program": {"parameters": 7, "batch_size": 64, "attention": "cuDNN kernel", "compile_seconds": 9.0},
    "step": {"mfu_of_datasheet": 0.41, "mfu_of_measured": 0.5, "tflops_per_s_per_device": 405.0, "median": 0.25,
             "examples_per_s": 256.0},
    "memory": {"device_peak_bytes": 1 << 35, "device_limit_bytes": 1 << 36}, "loading": {"ratio_of_sums": 0.97},
}  # fmt: skip
SUITE = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="{}"/></testsuites>'


def python(tests=SUITE.format(4, 0, 0), flash=SUITE.format(5, 0, 1), base=FOUND, large=FOUND, first="", codes=None):
    """Bash text of an interpreter whose tests and benchmarks write what is given (None: nothing, and they fail)."""

    def part(pattern, name, place, text):
        code = (codes or {}).get(name, 0 if text else 1)
        write = f"mkdir -p {name} && printf %s {shlex.quote(text)} > {place}" if text else "echo out of memory"
        return f"*{pattern}*) echo {name} >> $calls; cd {{out}}; {write}; exit {code} ;;\n"

    return (
        'case "$*" in\n"-c import jax"*) exit 0 ;;\n'
        + first
        + part("--ignore=tests/models/test_flash.py", "tests", "tests.xml", tests)
        + part("tests/models/test_flash.py", "flash", "flash.xml", flash)
        + part("size=base", "base", "base/bench.json", base and json.dumps(base))
        + part("size=large", "large", "large/bench.json", large and json.dumps(large))
        + f'esac\nexec {sys.executable} "$@"'
    )


@pytest.fixture
def check(machine):
    """check(*flags, status=0, **what the parts do) -> (the JSON, names of the parts that ran, what was told)."""

    def run(*flags, status=0, **parts):
        out = machine.home / "out"
        stubs = {"nvidia-smi": GPU, "python": python(**parts).replace("{out}", str(out))}
        told = machine(CHECK, f"--out={out}", *flags, status=status, **stubs)
        found = json.loads((out / "gpu_check.json").read_text())
        assert status or json.loads(told) == found, "all that goes to stdout"
        return found, machine.calls.read_text().split(), told

    return run


def test_all_parts_are_in_the_json(check):
    found, ran, _ = check()
    assert ran == list(found["parts"]) == ["tests", "flash", "base", "large"] and found["passed"] and "H100" in found["device"]
    assert [found["parts"]["flash"][key] for key in ("status", "passed", "failed", "skipped")] == ["passed", 4, 0, 1]
    large = found["parts"]["large"]
    assert (large["mfu_of_datasheet"], large["step_seconds"], large["examples_per_s"]) == (0.41, 0.25, 256.0)
    assert (large["peak_bytes"], large["attention"], large["remat"]) == (1 << 35, "cuDNN kernel", "dots")


def test_a_part_that_fails_does_not_stop_the_rest(check):
    found, ran, _ = check(status=1, tests=SUITE.format(4, 1, 1), base=None, codes={"tests": 1})
    assert ran == ["tests", "flash", "base", "large"] and not found["passed"]
    parts = found["parts"]
    assert [part["status"] for part in parts.values()] == ["failed", "passed", "failed", "passed"]
    assert [parts["tests"][key] for key in ("passed", "failed", "skipped")] == [2, 1, 1]
    assert parts["base"]["last_lines"] == ["out of memory"] and "bench.json" in parts["base"]["error"]


def test_tests_that_were_all_skipped_have_shown_nothing(check):
    found, ran, _ = check("--parts=flash", status=1, flash=SUITE.format(5, 0, 5))
    assert ran == ["flash"] and found["parts"]["flash"]["status"] == "failed" and found["parts"]["flash"]["skipped"] == 5


def test_a_check_that_is_stopped_tells_what_it_has(check):
    found, ran, _ = check(status=143, first="*size=base*) kill -TERM $PPID; exit 143 ;;\n")
    assert ran == ["tests", "flash"]
    assert [part["status"] for part in found["parts"].values()] == ["passed", "passed", "failed", "not run"]


def test_without_a_gpu_it_refuses_before_anything_heavy(machine):
    anything = f"{machine.record} exit 0"
    assert "there is no nvidia-smi" in machine(CHECK, status=2, python=anything)
    assert "nvidia-smi fails" in machine(CHECK, status=2, python=anything, **{"nvidia-smi": "echo no driver; exit 9"})
    assert "lists none" in machine(CHECK, status=2, python=anything, **{"nvidia-smi": "true"})
    assert not machine.calls.exists()
    told = machine(CHECK, status=2, python=f"{machine.record} exit 1", **{"nvidia-smi": GPU})
    assert "JAX does not see the GPU (NVIDIA H100" in told and "pip install -e '.[gpu,test]'" in told
    assert len(machine.recorded().splitlines()) == 1 and not list(machine.home.iterdir())


def test_a_dry_run_prints_the_commands(machine):
    flags = ["--out=here", "--steps=3", "--base-batch=16", "--large-batch=8", "--large-remat=full"]
    commands = [shlex.split(line) for line in machine(CHECK, *flags, "--dry-run").splitlines()]
    assert len(commands) == 4 and not list(machine.home.iterdir())
    tests, flash, base, large = commands
    assert "gpu" in tests and "--ignore=tests/models/test_flash.py" in tests and "tests/models/test_flash.py" in flash
    for command, size, batch, remat in ((base, "base", 16, "none"), (large, "large", 8, "full")):
        assert command[:3] == ["python", "-m", "xmodal_jax.bench"] and "--steps=3" in command
        assert (
            f"--config=configs/pretrain.py:size={size},image_size=224" in command and f"--config.batch_size={batch}" in command
        )
        assert f"--config.model.remat={remat}" in command and f"--workdir={machine.home}/here/{size}" in command


@pytest.mark.parametrize("flag", ["--steps=0", "--large-batch=many", "--base-remat=some", "--parts=base,all", "--parts="])
def test_mistakes(machine, flag):
    assert flag.split("=")[1].split(",")[-1] in machine(CHECK, flag, "--dry-run", status=2)
