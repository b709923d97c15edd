#!/usr/bin/env bash
# Training on GKE as a JobSet: fills in launch/gke/tpu.yaml or gpu.yaml and applies it. See --help.
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: launch/gke.sh tpu|gpu --name=NAME --image=IMAGE (--bucket=BUCKET | --claim=CLAIM) [flags] [-- settings of the run]

  --name=NAME              of the JobSet, and of the run's folder
  --image=IMAGE            built from launch/Dockerfile.tpu or launch/Dockerfile.gpu
  --bucket=BUCKET          Cloud Storage bucket, mounted by the Cloud Storage FUSE driver of the cluster
  --claim=CLAIM            or a PersistentVolumeClaim that many nodes can write (ReadWriteMany; e.g. Filestore)
  --mount=DIR              where it is mounted (default /runs)
  --config=CONFIG          default configs/pretrain.py; must be in the image
  --workdir=DIR            the run's folder, below --mount (default: MOUNT/NAME). The same folder goes on with the run.
  -- SETTINGS              further flags of xmodal_jax.main, e.g. --config.batch_size=256

TPU
  --accelerator=TYPE       node label (default tpu-v6e-slice; tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v4-podslice, tpu7x)
  --topology=AxB[xC]       of one slice (default 4x4)
  --chips-per-node=N       default 4, or all chips of a smaller slice; 8 for the ...-8t machines of 2x4
  --slices=N               several slices, joined over the data centre network (default 1)

GPU
  --accelerator=TYPE       node label (default nvidia-h100-80gb)
  --nodes=N                default 2
  --gpus-per-node=N        default 8

Cluster
  --namespace=NAMESPACE    default: default
  --service-account=NAME   Kubernetes service account that may write the bucket (default: default)
  --queue=QUEUE            Kueue's local queue
  --spot                   on spot nodes
  --max-restarts=N         after failures of its own (default 10); preemptions do not count
  --grace=SECONDS          to save in after SIGTERM (default 120; spot nodes allow less)

  --dry-run                print the YAML, apply nothing; needs no kubectl
  --help                   this text

After a preemption the JobSet starts all pods again, and the run goes on from its newest checkpoint in the workdir.
The workdir is a folder that every node sees, not a gs:// address: the library reads and writes plain files.
HELP
}

die() { printf 'gke.sh: %s\n' "$*" >&2; exit 2; }

kind='' name='' image='' bucket='' claim='' mount=/runs config=configs/pretrain.py workdir='' accelerator='' topology=4x4
chips='' slices=1 nodes=2 gpus=8 namespace=default account=default queue='' spot='' restarts=10 grace=120 dry=''
settings=()
while (($#)); do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --bucket=*) bucket=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --mount=*) mount=${1#*=} ;;
    --config=*) config=${1#*=} ;;
    --workdir=*) workdir=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --topology=*) topology=${1#*=} ;;
    --chips-per-node=*) chips=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --nodes=*) nodes=${1#*=} ;;
    --gpus-per-node=*) gpus=${1#*=} ;;
    --namespace=*) namespace=${1#*=} ;;
    --service-account=*) account=${1#*=} ;;
    --queue=*) queue=${1#*=} ;;
    --spot) spot=1 ;;
    --max-restarts=*) restarts=${1#*=} ;;
    --grace=*) grace=${1#*=} ;;
    --dry-run) dry=1 ;;
    --) shift; settings=("$@"); break ;;
    tpu | gpu) kind=$1 ;;
    *) die "unknown argument $1 (see --help)" ;;
  esac
  shift
done

[[ -n $kind ]] || { usage >&2; exit 2; }
# With "-slice-0-0-12345" behind it, it must still be a host name.
[[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] || die "--name=$name: at most 40 of a-z 0-9 -, from a letter on"
[[ -n $image ]] || die "--image is needed: build launch/Dockerfile.$kind and push it where the cluster can read it"
bucket=${bucket#gs://}
bucket=${bucket%/}
[[ $bucket != */* ]] || die "--bucket is a bucket's name, without a path: give the path with --workdir"
[[ -n $bucket && -z $claim || -z $bucket && -n $claim ]] || die "give --bucket or --claim: a disk that all nodes share"
for word in "$image" "$bucket" "$claim" "$mount" "$accelerator" "$namespace" "$account" "$queue"; do
  [[ $word =~ ^[A-Za-z0-9_./:@-]*$ ]] || die "odd characters in '$word'"
done
for number in "$slices" "$nodes" "$gpus" "$restarts" "$grace" "${chips:-1}"; do
  [[ $number =~ ^[0-9]+$ ]] || die "'$number' is no number"
done
((slices > 0 && nodes > 0 && gpus > 0 && ${chips:-1} > 0)) || die "--slices, --nodes, --gpus-per-node: at least 1"
: "${workdir:=$mount/$name}"
case $workdir in
  gs://*) die "--workdir=$workdir: the library writes plain files; give --bucket and a folder below $mount" ;;
  "$mount"/*) ;;
  *) die "--workdir=$workdir must lie below $mount, which all nodes share (--mount)" ;;
esac

args=()
if [[ $kind == tpu ]]; then
  : "${accelerator:=tpu-v6e-slice}"
  [[ $topology =~ ^[0-9]+(x[0-9]+){1,2}$ ]] || die "--topology=$topology: AxB or AxBxC"
  total=$((${topology//x/*}))
  : "${chips:=$((total < 4 ? total : 4))}"
  ((total % chips == 0)) || die "--topology=$topology has $total chips, which is no multiple of --chips-per-node=$chips"
  nodes=$((total / chips))
  # A lone host needs no others, and is not told their names.
  ((nodes * slices == 1)) || args+=(--distributed)
else
  : "${accelerator:=nvidia-h100-80gb}"
fi
args+=(--config="$config" --workdir="$workdir" ${settings[@]+"${settings[@]}"})

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
labels='{}' annotations='{}'
[[ -z $queue ]] || labels="{kueue.x-k8s.io/queue-name: $queue}"
if [[ -n $bucket ]]; then
  annotations='{gke-gcsfuse/volumes: "true", gke-gcsfuse/memory-limit: 4Gi, gke-gcsfuse/ephemeral-storage-limit: 50Gi}'
  # All metadata from the bucket itself, since processes wait for each other's files; checkpoints are made whole by renaming.
  options=implicit-dirs,rename-dir-limit=200000,metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0,uid=1000,gid=1000
  volume="csi:
  driver: gcsfuse.csi.storage.gke.io
  volumeAttributes:
    bucketName: $bucket
    mountOptions: $options"
else
  volume="persistentVolumeClaim:
  claimName: $claim"
fi

yaml_list() { # words as a YAML list of quoted strings
  local word
  for word in "$@"; do printf "%s '%s'\n" - "${word//\'/\'\'}"; done
}

gpu_ids=0
for ((i = 1; i < gpus; i++)); do gpu_ids+=,$i; done

value_of() {
  case $1 in
    NAME) echo "$name" ;;
    NAMESPACE) echo "$namespace" ;;
    LABELS) echo "$labels" ;;
    POD_ANNOTATIONS) echo "$annotations" ;;
    MAX_RESTARTS) echo "$restarts" ;;
    GRACE) echo "$grace" ;;
    SERVICE_ACCOUNT) echo "$account" ;;
    ACCELERATOR) echo "$accelerator" ;;
    TOPOLOGY) echo "$topology" ;;
    SLICES) echo "$slices" ;;
    NODES) echo "$nodes" ;;
    CHIPS) echo "$chips" ;;
    GPUS) echo "$gpus" ;;
    GPU_IDS) echo "$gpu_ids" ;;
    IMAGE) echo "$image" ;;
    MOUNT) echo "$mount" ;;
    SPOT_SELECTOR) [[ -z $spot ]] || echo 'cloud.google.com/gke-spot: "true"' ;;
    RUN) cat "$here/gke/run.sh" ;;
    ARGS) yaml_list "${args[@]}" ;;
    VOLUME) echo "$volume" ;;
    *) die "launch/gke/$kind.yaml has an unknown place \${$1}" ;;
  esac
}

# Every ${PLACE} by its value; where one stands alone in its line, by lines of that indent, or no line for no value.
render() {
  local line indent value
  while IFS= read -r line; do
    if [[ $line =~ ^(\ *)\$\{([A-Z_]+)\}$ ]]; then
      indent=${BASH_REMATCH[1]}
      value=$(value_of "${BASH_REMATCH[2]}")
      [[ -z $value ]] || printf '%s\n' "$value" | sed "s/^/$indent/"
      continue
    fi
    while [[ $line =~ ^(.*)\$\{([A-Z_]+)\}(.*)$ ]]; do
      value=$(value_of "${BASH_REMATCH[2]}")
      line=${BASH_REMATCH[1]}$value${BASH_REMATCH[3]}
    done
    printf '%s\n' "$line"
  done <"$here/gke/$kind.yaml"
}

yaml=$(render)
if [[ -n $dry ]]; then
  printf '# Would be given to: kubectl apply -f -\n%s\n' "$yaml"
  exit 0
fi
command -v kubectl >/dev/null || die "kubectl is not installed (--dry-run prints the YAML)"
kubectl apply -f - <<<"$yaml"
job=$([[ $kind == tpu ]] && echo slice || echo workers)
cat <<HELP
Pods:    kubectl --namespace=$namespace get pods --selector=jobset.sigs.k8s.io/jobset-name=$name
Log:     kubectl --namespace=$namespace logs --follow job/$name-$job-0 --container=train
Delete:  kubectl --namespace=$namespace delete jobset $name
HELP
