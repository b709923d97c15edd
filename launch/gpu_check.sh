#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show, in about ten minutes: tests, attention, benchmarks, one JSON. See --help.
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: launch/gpu_check.sh [flags]

Four parts, one after the other; one that fails does not stop the rest:
  tests     the tests that need a GPU
  flash     cuDNN's attention against plain attention, forward and backward
  base      benchmark of configs/pretrain.py:size=base at 224 pixels (0.2 billion parameters), bfloat16
  large     the same of size=large (1.2 billion)

The last thing printed, and all that goes to stdout, is one JSON: the device, and of each part its status, counts of tests,
MFU, step time, examples/s, peak memory, attention. Exit status 0 where every part passed, 1 where one did not, 2 without a GPU.

  --out=DIR            folder of logs, benchmarks and gpu_check.json (default runs/gpu-check-TIME)
  --steps=N            counted steps of each benchmark (default 10)
  --base-batch=N       examples a step at size base (default 128: planned: 30 GiB)
  --large-batch=N      examples a step at size large (default 64: planned: 35 GiB, the state 13 of them)
  --base-remat=HOW     none (default), dots or full: what the gradient recomputes, for less memory
  --large-remat=HOW    the same, default dots
  --parts=NAME,...     only these parts (default tests,flash,base,large)

  --dry-run            print the commands, run none of them; needs no GPU
  --help               this text

Needs pip install -e '.[gpu,test]'. PYTHON names another interpreter than the `python` of the active environment.
HELP
}

die() { printf 'gpu_check.sh: %s\n' "$*" >&2; exit 2; }

out='' steps=10 base_batch=128 large_batch=64 base_remat=none large_remat=dots parts=tests,flash,base,large dry=''
while (($#)); do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --out=*) out=${1#*=} ;;
    --steps=*) steps=${1#*=} ;;
    --base-batch=*) base_batch=${1#*=} ;;
    --large-batch=*) large_batch=${1#*=} ;;
    --base-remat=*) base_remat=${1#*=} ;;
    --large-remat=*) large_remat=${1#*=} ;;
    --parts=*) parts=${1#*=} ;;
    --dry-run) dry=1 ;;
    *) die "unknown argument $1 (see --help)" ;;
  esac
  shift
done
for number in "$steps" "$base_batch" "$large_batch"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "'$number' is no number from 1 on"
done
for remat in "$base_remat" "$large_remat"; do
  [[ $remat =~ ^(none|dots|full)$ ]] || die "'$remat' is none of none, dots, full"
done
IFS=, read -r -a chosen <<<"$parts"
for part in ${chosen[@]+"${chosen[@]}"}; do
  [[ $part =~ ^(tests|flash|base|large)$ ]] || die "--parts: '$part' is none of tests, flash, base, large"
done
((${#chosen[@]})) || die "--parts: name at least one of tests, flash, base, large"

python=${PYTHON:-python}
called=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -n $out ]] || out=runs/gpu-check-$(date +%Y-%m-%d-%H%M%S)
[[ $out == /* || $out == runs/gpu-check-* ]] || out=$called/$out

# One GPU and the host beside it, to compare with; nearly all of the GPU's memory; programs as they are in earnest.
export JAX_PLATFORMS=cuda,cpu XLA_PYTHON_CLIENT_MEM_FRACTION=0.92 JAX_DISABLE_MOST_OPTIMIZATIONS=0
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}

bench() { # SIZE BATCH REMAT: sets `command`
  command=("$python" -m xmodal_jax.bench "--config=configs/pretrain.py:size=$1,image_size=224" --steps="$steps"
    "--config.precision=params=float32,compute=bfloat16,output=float32" --config.batch_size="$2" --config.model.remat="$3"
    --workdir="$out/$1")
}

command_of() { # PART: sets `command`
  case $1 in
    tests) command=("$python" -m pytest -m gpu --ignore=tests/models/test_flash.py --junitxml="$out/tests.xml") ;;
    flash) command=("$python" -m pytest -m gpu tests/models/test_flash.py --junitxml="$out/flash.xml") ;;
    base) bench base "$base_batch" "$base_remat" ;;
    large) bench large "$large_batch" "$large_remat" ;;
  esac
}

if [[ -n $dry ]]; then
  for part in "${chosen[@]}"; do
    command_of "$part"
    line=$(printf ' %q' "${command[@]}")
    printf '%s\n' "${line# } > $out/$part.log"
  done
  exit 0
fi

command -v nvidia-smi >/dev/null || die "no NVIDIA GPU here: there is no nvidia-smi (--dry-run prints the commands)"
device=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader) ||
  die "no NVIDIA GPU here: nvidia-smi fails ($device)"
[[ -n $device ]] || die "no NVIDIA GPU here: nvidia-smi lists none"
"$python" -c 'import jax; assert jax.default_backend() == "gpu"' 2>/dev/null ||
  die "JAX does not see the GPU (${device%%$'\n'*}): pip install -e '.[gpu,test]', in the environment whose python this is: $python"

mkdir -p "$out"
ended=() stopped=''
trap 'stopped=130' INT
trap 'stopped=143' TERM
for part in "${chosen[@]}"; do
  [[ -z $stopped ]] || break
  command_of "$part"
  printf '== %s: %s\n' "$part" "$out/$part.log" >&2
  code=0 begin=$SECONDS
  "${command[@]}" >"$out/$part.log" 2>&1 || code=$?
  ended+=("$part=$code=$((SECONDS - begin))")
  printf '== %s: exit status %s after %s s\n' "$part" "$code" "$((SECONDS - begin))" >&2
done

passed=0
"$python" - "$out" "$device" "$parts" ${ended[@]+"${ended[@]}"} <<'PYTHON' || passed=$?
"""The JSON of all parts, from what they left in the folder; exit status 1 where one did not pass."""

import json
import pathlib
import sys
import xml.etree.ElementTree

out, device, parts, *ended = sys.argv[1:]
out, ended = pathlib.Path(out), {name: (int(code), int(seconds)) for name, code, seconds in (e.split("=") for e in ended)}


def tests(name):
    suites = list(xml.etree.ElementTree.parse(out / f"{name}.xml").getroot().iter("testsuite"))
    count = {key: sum(int(suite.get(key)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return {"passed": count["tests"] - failed - count["skipped"], "failed": failed, "skipped": count["skipped"]}


def benchmark(name):
    found = json.loads((out / name / "bench.json").read_text("utf-8"))
    step, program, memory = found["step"], found["program"], found["memory"]
    return {
        "device_kind": found["machine"]["device_kind"],
        "jax": found["machine"]["jax"],
        "parameters": program["parameters"],
        "batch_size": program["batch_size"],
        "remat": found["config"]["model"]["remat"],
        "attention": program["attention"],
        "mfu_of_datasheet": step["mfu_of_datasheet"],
        "mfu_of_measured": step["mfu_of_measured"],
        "tflops_per_s": step["tflops_per_s_per_device"],
        "step_seconds": step["median"],
        "examples_per_s": step["examples_per_s"],
        "peak_bytes": memory["device_peak_bytes"],
        "limit_bytes": memory["device_limit_bytes"],
        "compile_seconds": program["compile_seconds"],
        "speed_kept_with_loading": found["loading"]["ratio_of_sums"],
    }


def part(name):
    if name not in ended:
        return {"status": "not run"}
    code, seconds = ended[name]
    found, status = {}, "passed" if code == 0 else "failed"
    try:
        found = tests(name) if name in ("tests", "flash") else benchmark(name)
    except (OSError, KeyError, ValueError, xml.etree.ElementTree.ParseError) as error:
        status, found = "failed", {"error": f"{type(error).__name__}: {error}"}
    if status == "passed" and found.get("passed") == 0:
        status = "failed"  # all were skipped: nothing was shown
    if status == "failed":
        lines = (out / f"{name}.log").read_text("utf-8", "replace").splitlines()
        found["last_lines"] = [line[:300] for line in lines if line.strip()][-5:]
    return {"status": status, "exit_status": code, "seconds": seconds, **found}


found = {"device": device, "folder": str(out), "parts": {name: part(name) for name in parts.split(",")}}
found["passed"] = all(one["status"] == "passed" for one in found["parts"].values())
text = json.dumps(found, indent=2)
(out / "gpu_check.json").write_text(text + "\n", "utf-8")
print(text)
sys.exit(0 if found["passed"] else 1)
PYTHON
exit "${stopped:-$passed}"
