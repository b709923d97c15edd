#!/usr/bin/env bash
# Training on GPUs of a Slurm cluster: writes a batch script and gives it to sbatch. See --help.
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: launch/slurm.sh --workdir=DIR [flags] [-- settings of the run]

  --workdir=DIR            the run's folder, on a disk that all nodes share. The same folder goes on with the run.
  --config=CONFIG          default configs/pretrain.py
  --nodes=N                default 1
  --gpus-per-node=N        default 8
  --process-per=node|gpu   one process per node (default), with all its GPUs, or one per GPU
  --cpus-per-gpu=N         default 8
  --mem=SIZE               memory of a node, 0 for all of it (default: the cluster's)
  --time=TIME              default 24:00:00
  --partition=NAME, --account=NAME, --qos=NAME
  --job-name=NAME          default xmodal
  --venv=DIR               Python environment, on a disk that all nodes share (default: the one that is active)
  --warn=SECONDS           before the time limit, to save in (default 300)
  --log=FILE               default WORKDIR.log; a job that was started again appends
  -- SETTINGS              further flags of xmodal_jax.main, e.g. --config.batch_size=256

  --dry-run                print the command and the script, submit nothing; needs no Slurm
  --help                   this text

Shortly before its time limit, and on SIGTERM (preemption), the run saves, ends, and its job is queued again until the run is
finished. `scancel` ends it for good.
HELP
}

die() { printf 'slurm.sh: %s\n' "$*" >&2; exit 2; }

workdir='' config=configs/pretrain.py nodes=1 gpus=8 per=node cpus=8 time=24:00:00 name=xmodal
venv=${VIRTUAL_ENV:-} warn=300 log='' dry=''
more=() settings=()
while (($#)); do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --workdir=*) workdir=${1#*=} ;;
    --config=*) config=${1#*=} ;;
    --nodes=*) nodes=${1#*=} ;;
    --gpus-per-node=*) gpus=${1#*=} ;;
    --process-per=*) per=${1#*=} ;;
    --cpus-per-gpu=*) cpus=${1#*=} ;;
    --time=*) time=${1#*=} ;;
    --partition=* | --account=* | --qos=* | --mem=*) more+=("$1") ;;
    --job-name=*) name=${1#*=} ;;
    --venv=*) venv=${1#*=} ;;
    --warn=*) warn=${1#*=} ;;
    --log=*) log=${1#*=} ;;
    --dry-run) dry=1 ;;
    --) shift; settings=("$@"); break ;;
    *) die "unknown argument $1 (see --help)" ;;
  esac
  shift
done

[[ -n $workdir ]] || die "--workdir=DIR is needed, on a disk that all nodes share (see --help)"
[[ $workdir != *://* ]] || die "--workdir=$workdir: the library writes plain files; give a folder of a disk that all nodes share"
for number in "$nodes" "$gpus" "$cpus" "$warn"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "'$number' is no number from 1 on"
done
[[ $workdir == /* ]] || workdir=$PWD/$workdir
workdir=${workdir%/}
: "${log:=$workdir.log}"
case $per in
  node) tasks=1 ;;
  gpu) tasks=$gpus ;;
  *) die "--process-per=$per: node or gpu" ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
options=(--job-name="$name" --nodes="$nodes" --ntasks-per-node="$tasks" --gpus-per-node="$gpus"
  --cpus-per-task=$((cpus * gpus / tasks)) --time="$time" --output="$log" --open-mode=append
  --requeue --signal=B:USR1@"$warn" ${more[@]+"${more[@]}"})

batch_script() {
  cat <<SCRIPT
#!/usr/bin/env bash
set -euo pipefail
cd $(printf %q "$root")
workdir=$(printf %q "$workdir")
command=($(printf '%q ' python -m xmodal_jax.main --distributed --config="$config")--workdir="\$workdir"$(
    ((${#settings[@]} == 0)) || printf ' %q' "${settings[@]}"))
SCRIPT
  [[ -z $venv ]] || printf 'source %q\n' "$venv/bin/activate"
  if [[ $per == node ]]; then # else JAX takes the GPU of the task's number on its node
    local ids=0 i
    for ((i = 1; i < gpus; i++)); do ids+=,$i; done
    echo "export JAX_LOCAL_DEVICE_IDS=$ids"
  fi
  cat <<'SCRIPT'

mkdir -p "$workdir"
started=$workdir/.started # on the workdir's disk: its clock dates results.json too
touch "$started"
told=''
trap 'told=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' USR1 TERM # to the processes: save and end

# Every process sees all GPUs of its node, and takes its own.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --gpu-bind=none "${command[@]}" &
steps=$! code=0
wait "$steps" || code=$?
while kill -0 "$steps" 2>/dev/null; do # the wait was ended by a signal
  code=0
  wait "$steps" || code=$?
done

finished=''
[[ ! $workdir/results.json -nt $started ]] || finished=1
rm -f "$started"
if [[ -n $finished && -n $told ]]; then exit 0; fi
if [[ -n $finished ]] || { ((code != 0)) && [[ -z $told ]]; }; then exit "$code"; fi
# A job that was cancelled is not RUNNING any more, and stays cancelled.
if [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]]; then
  echo "Not finished: queued again, to go on from the newest checkpoint in $workdir"
  scontrol requeue "$SLURM_JOB_ID"
fi
SCRIPT
}

if [[ -n $dry ]]; then
  printf 'sbatch'
  for word in "${options[@]}"; do printf ' %q' "$word"; done
  printf " <<'BATCH'\n%s\nBATCH\n" "$(batch_script)"
  exit 0
fi
command -v sbatch >/dev/null || die "sbatch is not here: start this on a login node of the cluster (--dry-run prints the job)"
mkdir -p "$(dirname "$log")"
batch_script | sbatch "${options[@]}"
