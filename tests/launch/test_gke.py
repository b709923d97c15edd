"""launch/gke.sh: the JobSets that it applies, the script of their pods, and mistakes."""

import pathlib
import signal
import subprocess
import time

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
GKE = ["--name=pre", "--image=registry/xmodal:1"]


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
