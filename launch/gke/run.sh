# shellcheck shell=bash
# Told to stop (eviction, spot preemption) a run saves and ends with 0; here it ends as failed, so that it is started again.
trap 'stopped=1; kill -TERM "$child" || true' TERM
stopped='' code=0
python -m xmodal_jax.main "$@" &
child=$!
wait "$child" || code=$?
if [ -n "$stopped" ]; then
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
  exit 143
fi
exit "$code"
