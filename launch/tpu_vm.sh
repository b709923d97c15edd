#!/usr/bin/env bash
# Cloud TPU VMs, one host or a pod slice: create, install, run, watch, stop, delete. See --help.
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: launch/tpu_vm.sh STEP --name=NAME --zone=ZONE [flags] [-- settings of the run]

STEP
  up        create, install, run: also after a preemption (first `delete`, then the same `up` goes on from the checkpoint)
  create    ask for the machine and wait until it is there
  install   copy this checkout to every worker, install it, mount the bucket
  run       start training on every worker, in the background
  status    state of the machine
  logs      follow the log of worker 0
  stop      SIGTERM to every worker: the run saves and ends; `run` goes on from there
  delete    give the machine back

Machine
  --name=NAME              of the TPU VM
  --zone=ZONE              e.g. us-east5-b
  --project=PROJECT        default: gcloud's
  --type=TYPE              accelerator type (default v6e-8): v4-N v5p-N (N: cores), v5litepod-N v6e-N (N: chips)
  --version=VERSION        runtime version (default: that for the type)
  --spot, --reserved       spot (may be preempted) or reserved capacity
  --direct                 `tpu-vm create`, which fails at once where there is no capacity, instead of a queued resource
  --service-account=EMAIL  of the machine; it needs to read and write the bucket
  --internal               no external addresses (needs Cloud NAT), ssh through internal ones

Run
  --bucket=BUCKET          Cloud Storage bucket, mounted by gcsfuse on every worker
  --mount=DIR              where it is mounted (default /mnt/runs); without --bucket: a disk that all workers share
  --config=CONFIG          default configs/pretrain.py
  --workdir=DIR            the run's folder, below --mount (default: MOUNT/NAME). The same folder goes on with the run.
  -- SETTINGS              further flags of xmodal_jax.main, e.g. --config.batch_size=256

  --dry-run                print the commands, run none of them; needs no gcloud
  --help                   this text

The workdir is a folder that every worker sees, not a gs:// address: the library reads and writes plain files.
HELP
}

die() { printf 'tpu_vm.sh: %s\n' "$*" >&2; exit 2; }

step='' name='' zone='' project='' type=v6e-8 version='' capacity='' direct='' account='' internal=''
bucket='' mount=/mnt/runs config=configs/pretrain.py workdir='' dry=''
settings=()
while (($#)); do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot | --reserved) [[ -z $capacity ]] || die "--spot or --reserved, not both"; capacity=$1 ;;
    --direct) direct=1 ;;
    --service-account=*) account=${1#*=} ;;
    --internal) internal=1 ;;
    --bucket=*) bucket=${1#*=} ;;
    --mount=*) mount=${1#*=} ;;
    --config=*) config=${1#*=} ;;
    --workdir=*) workdir=${1#*=} ;;
    --dry-run) dry=1 ;;
    --) shift; settings=("$@"); break ;;
    -*) die "unknown flag $1 (see --help)" ;;
    *) [[ -z $step ]] || die "one step at a time: $step or $1?"; step=$1 ;;
  esac
  shift
done
[[ -n $step ]] || { usage >&2; exit 2; }
[[ -n $name && -n $zone ]] || die "--name and --zone are needed (see --help)"
bucket=${bucket#gs://}
bucket=${bucket%/}
[[ $bucket != */* ]] || die "--bucket is a bucket's name, without a path: give the path with --workdir"
: "${workdir:=$mount/$name}"
case $workdir in
  gs://*) die "--workdir=$workdir: the library writes plain files; give --bucket and a folder below $mount" ;;
  "$mount"/*) ;;
  *) die "--workdir=$workdir must lie below $mount, which all workers share (--mount)" ;;
esac

if [[ -z $version ]]; then
  case $type in
    v6e-*) version=v2-alpha-tpuv6e ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v2-* | v3-* | v4-*) version=tpu-ubuntu2204-base ;;
    *) die "--type=$type: which runtime version? Give --version" ;;
  esac
fi

place=(--zone="$zone" ${project:+--project="$project"})

quoted() { # the words of a command as one line of shell, quoted only where needed
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

do_or_print() {
  if [[ -n $dry ]]; then quoted "$@"; else "$@"; fi
}

on() { # WORKER SCRIPT [ssh flags]
  local worker=$1 script=$2
  shift 2
  do_or_print gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$worker" ${internal:+--internal-ip} \
    --command="$script" "$@"
}

create() {
  # ${NAME:+...} leaves a flag out where its value is empty
  local common=(--accelerator-type="$type" ${capacity:+"$capacity"} ${internal:+--internal-ips}
    ${account:+--service-account="$account"} --scopes=https://www.googleapis.com/auth/cloud-platform)
  if [[ -n $direct ]]; then
    do_or_print gcloud compute tpus tpu-vm create "$name" "${place[@]}" --version="$version" "${common[@]}"
    return
  fi
  do_or_print gcloud compute tpus queued-resources create "$name" "${place[@]}" --node-id="$name" \
    --runtime-version="$version" "${common[@]}"
  if [[ -n $dry ]]; then
    echo "# and every 30 s, until it says ACTIVE:"
    queue_state
    return
  fi
  local state=''
  while true; do
    state=$(queue_state)
    printf '%s  %s: %s\n' "$(date +%T)" "$name" "$state"
    case $state in
      ACTIVE) return ;;
      FAILED | SUSPEND*) die "the request for $name ended as $state: 'delete' it, and try again" ;;
    esac
    sleep 30
  done
}

queue_state() {
  do_or_print gcloud compute tpus queued-resources describe "$name" "${place[@]}" '--format=value(state.state)'
}

# Run on every worker before a run too: a machine that was restarted has lost its mount. All metadata comes from the bucket
# itself, since workers wait for each other's files; checkpoints are made whole by renaming a folder.
mount_script() {
  [[ -n $bucket ]] || return 0
  local place
  place=$(quoted "$mount")
  cat <<REMOTE
if ! mountpoint -q $place; then
  sudo mkdir -p $place && sudo chown "\$USER" $place
  gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \\
    $(quoted "$bucket" "$mount")
fi
REMOTE
}

install_script() {
  cat <<'REMOTE'
set -euo pipefail
apt() { sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }
apt update
apt-cache show python3.12-venv >/dev/null 2>&1 || { sudo add-apt-repository -y ppa:deadsnakes/ppa; apt update; }
apt install -y python3.12 python3.12-venv
REMOTE
  if [[ -n $bucket ]]; then
    cat <<'REMOTE'
if ! command -v gcsfuse >/dev/null; then
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
  echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  apt update
  apt install -y gcsfuse
fi
REMOTE
    mount_script
  fi
  cat <<'REMOTE'
mkdir -p ~/xmodal_jax
tar -xzf ~/xmodal_jax.tar.gz -C ~/xmodal_jax
cd ~/xmodal_jax
python3.12 -m venv .venv && . .venv/bin/activate && pip install -q -e '.[tpu]'
REMOTE
}

install_library() {
  local root archive=xmodal_jax.tar.gz folder=.
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  if [[ -z $dry ]]; then
    folder=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$folder'" EXIT
    tar -czf "$folder/$archive" -C "$root" --exclude=__pycache__ pyproject.toml setup.py README.md LICENSE xmodal_jax configs
  else
    echo "# in the checkout:"
    echo "tar -czf $archive --exclude=__pycache__ pyproject.toml setup.py README.md LICENSE xmodal_jax configs"
  fi
  do_or_print gcloud compute tpus tpu-vm scp "$folder/$archive" "$name:" "${place[@]}" --worker=all ${internal:+--internal-ip}
  on all "$(install_script)"
}

run() {
  on all "set -euo pipefail
$(mount_script)
if ! mountpoint -q $(quoted "$mount"); then echo '$mount is no mounted disk: give --bucket, or mount one' >&2; exit 1; fi
cd ~/xmodal_jax && . .venv/bin/activate
if [ -f train.pid ] && kill -0 \"\$(cat train.pid)\" 2>/dev/null; then echo 'a run is going on: stop it first' >&2; exit 1; fi
nohup setsid $(quoted python -m xmodal_jax.main --distributed --config="$config" --workdir="$workdir" \
    ${settings[@]+"${settings[@]}"}) >> train.log 2>&1 < /dev/null & echo \$! > train.pid"
  echo "# follow it with: launch/tpu_vm.sh logs --name=$name --zone=$zone${project:+ --project=$project}"
}

status() {
  if [[ -z $direct ]]; then queue_state; fi
  do_or_print gcloud compute tpus tpu-vm describe "$name" "${place[@]}" '--format=value(state,health)'
}

delete() {
  if [[ -n $direct ]]; then
    do_or_print gcloud compute tpus tpu-vm delete "$name" "${place[@]}" --quiet
  else # --force: the machine with its request
    do_or_print gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet
  fi
}

[[ -n $dry ]] || command -v gcloud >/dev/null || die "gcloud is not installed (https://cloud.google.com/sdk/docs/install)"
# shellcheck disable=SC2016  # $(cat ...) is for the worker
case $step in
  up) create; install_library; run ;;
  create) create ;;
  install) install_library ;;
  run) run ;;
  status) status ;;
  logs) on 0 'tail -n 100 -F ~/xmodal_jax/train.log' ;;
  stop) on all 'kill -TERM "$(cat ~/xmodal_jax/train.pid)"' ;;
  delete) delete ;;
  *) die "unknown step $step (see --help)" ;;
esac
