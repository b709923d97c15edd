"""launch/slurm.sh: what it submits, when its job is queued again, and mistakes."""

import pathlib

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


@pytest.mark.parametrize(
    ("flags", "tasks", "cpus", "devices"),
    [([], 1, 64, "0,1,2,3,4,5,6,7"), (["--process-per=gpu"], 8, 8, None), (["--gpus-per-node=1", "--nodes=2"], 1, 8, "0")],
)
def test_slurm_dry_run_is_what_is_submitted(machine, flags, tasks, cpus, devices):
    command = [LAUNCH / "slurm.sh", "--workdir=/disk/run", "--venv=/disk/venv", "--partition=gpu", "--log=job.log", *flags]
    settings = ["--", "--config.data.path=it's", "--config.batch_size=256"]
    printed = machine(*command, "--dry-run", *settings)
    assert not list(machine.home.iterdir())
    sbatch = machine.record + 'cat >> "$calls"'
    machine(*command, *settings, sbatch=sbatch)
    real = machine.recorded()
    machine("bash", text=printed, sbatch=sbatch)
    assert real == machine.recorded()
    options, script = printed.split("\n", 1)
    for option in ("--requeue", "--signal=B:USR1@300", "--open-mode=append", "--partition=gpu"):
        assert option in options.split()
    assert f"--ntasks-per-node={tasks}" in options and f"--cpus-per-task={cpus}" in options
    assert (f"export JAX_LOCAL_DEVICE_IDS={devices}\n" in script) if devices else ("JAX_LOCAL_DEVICE_IDS" not in script)
    machine("bash", "-n", "-c", script.removesuffix("BATCH\n"))


def slurm_job(machine, srun, state="RUNNING", **options):
    """Run the batch script with stubs of what Slurm has; the calls to scontrol and scancel are recorded."""
    folder = machine.home / "run"
    printed = machine(LAUNCH / "slurm.sh", f"--workdir={folder}", "--venv=", "--dry-run")
    script = printed.split("\n", 1)[1].removesuffix("BATCH\n")
    stubs = {
        "srun": f"run={folder}\n{srun}",
        "squeue": f"echo {state}",
        "scontrol": 'echo scontrol "$@" >> "$calls"',
        "scancel": 'echo scancel "$@" >> "$calls"',
    }
    (machine.home / "job.sh").write_text(script)
    env = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "64"}
    machine("bash", machine.home / "job.sh", env=env, **stubs, **options)
    return machine.calls.read_text() if machine.calls.exists() else ""


def test_slurm_job_is_queued_again_until_the_run_is_finished(machine):
    assert slurm_job(machine, "exit 0") == "scontrol requeue 7\n"  # stopped by SIGTERM to its steps: saved, no results
    machine.calls.unlink()
    assert slurm_job(machine, "sleep 0.05; echo {} > $run/results.json") == ""
    assert slurm_job(machine, "exit 0") == "scontrol requeue 7\n", "older results are not this job's"


def test_slurm_job_that_crashed_or_was_cancelled_is_not_queued_again(machine):
    assert slurm_job(machine, "exit 3", status=3) == ""
    assert slurm_job(machine, "exit 0", state="COMPLETING") == ""


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_slurm_warning_is_passed_on_and_the_save_waited_for(machine, name):
    srun = f"kill -{name} $PPID; sleep 0.3; echo saved >> $calls; exit 143"
    assert slurm_job(machine, srun) == "scancel --signal=TERM 7\nsaved\nscontrol requeue 7\n"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--workdir=DIR is needed"),
        (["--workdir=gs://b/run"], "plain files"),
        (["--workdir=r", "--process-per=rack"], "node or gpu"),
        (["--workdir=r", "--nodes=0"], "no number"),
        (["--workdir=r"], "login node"),
    ],
)
def test_slurm_mistakes(machine, flags, told):
    assert told in machine(LAUNCH / "slurm.sh", *flags, status=2)
