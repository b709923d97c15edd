"""launch/tpu_vm.sh: dry runs print what a real run does, and mistakes are told."""

import pathlib
import shlex

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
TPU_VM = ["--name=pre", "--zone=us-east5-b"]


@pytest.mark.parametrize("step", ["up", "create", "install", "run", "status", "logs", "stop", "delete"])
@pytest.mark.parametrize("flags", [["--bucket=gs://pictures", "--spot"], ["--direct", "--internal", "--project=mine"]])
def test_tpu_vm_dry_run_prints_what_is_run(machine, step, flags):
    command = [LAUNCH / "tpu_vm.sh", step, *TPU_VM, *flags]
    settings = ["--", "--config.batch_size=256", "--config.data.path=it's"]
    printed = machine(*command, "--dry-run", *settings)
    assert not list(machine.home.iterdir())
    gcloud = machine.record + "case $* in *queued-resources\\ describe*) echo ACTIVE ;; esac"
    machine(*command, *settings, gcloud=gcloud, env={"TMPDIR": str(machine.home)})
    real = machine.recorded()
    machine("bash", text=printed, gcloud=gcloud, tar="")
    assert real == machine.recorded()
    assert not list(machine.home.iterdir()), "the archive is not left behind"


def test_tpu_vm_remote_scripts(machine):
    """What the workers are told is bash, trains in a mounted folder, and is told to all of them."""
    printed = machine(LAUNCH / "tpu_vm.sh", "up", *TPU_VM, "--bucket=pictures", "--dry-run", "--", "--config.data.path=it's")
    words = shlex.split(printed, comments=True)
    remote = [word.removeprefix("--command=") for word in words if word.startswith("--command=")]
    assert len(remote) == 2 and printed.count("--worker=all") == 3
    for script in remote:
        machine("bash", "-n", "-c", script)
    assert "pip install -q -e '.[tpu]'" in remote[0] and "gcsfuse" in remote[0]
    assert "python -m xmodal_jax.main --distributed --config=configs/pretrain.py --workdir=/mnt/runs/pre" in remote[1]
    assert "--rename-dir-limit=" in remote[1] and "--metadata-cache-ttl-secs=0" in remote[1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["run"], "--name and --zone"),
        (["run", *TPU_VM, "--workdir=gs://b/run"], "plain files"),
        (["run", *TPU_VM, "--workdir=/home/run"], "below /mnt/runs"),
        (["create", *TPU_VM, "--type=v9-8"], "runtime version"),
        (["create", *TPU_VM, "--spot", "--reserved"], "not both"),
        (["nonsense", *TPU_VM, "--dry-run"], "unknown step"),
        (["create", *TPU_VM], "gcloud is not installed"),
    ],
)
def test_tpu_vm_mistakes(machine, flags, told):
    assert told in machine(LAUNCH / "tpu_vm.sh", *flags, status=2)


def test_tpu_vm_tells_of_a_request_that_failed(machine):
    told = machine(LAUNCH / "tpu_vm.sh", "create", *TPU_VM, status=2, gcloud="case $* in *describe*) echo SUSPENDED ;; esac")
    assert "ended as SUSPENDED" in told
