#!/usr/bin/env bash
# A sweep on the nodes of one SLURM allocation. From the project's folder:
#
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 --time=24:00:00 deploy/slurm.sh SPEC [OPTIONS]
#
# SPEC and OPTIONS are those of `linsweep launch`; the sweep's storage, and the data, must be folders that all nodes see.
# Three minutes before the time limit the sweep stops in order, and the job asks to be queued again: it then goes on
# where it stopped. `scancel --batch --signal=TERM JOB` stops it in order too, and for good. Only what this job has
# started is ended: the Ray of other jobs, on the same nodes even, is not touched.
#SBATCH --job-name=linsweep
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR1@180
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail

if [ "$#" -eq 0 ]; then
    echo "usage: sbatch [SBATCH OPTIONS] deploy/slurm.sh SPEC [LAUNCH OPTIONS]" >&2
    exit 2
fi
# sbatch runs a copy of this file: the environment is that of the folder it was submitted from.
export PATH="$PWD/.venv/bin:$PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
head_ip=$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }')
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
# A port of this job's own, below those that the system hands out, and outside 10002 to 19999, which Ray gives workers.
port=$((20000 + SLURM_JOB_ID % 5000 * 2))
address=$head_ip:$port

# Unix sockets lie below it, whose paths are short: not the shared folder.
export RAY_TMPDIR=/tmp/linsweep-$SLURM_JOB_ID
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
# Ray would start workers at niceness 15, and let a node that is told to end wait half a minute for requests.
export RAY_worker_niceness=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0

step=(--overlap --nodes=1 --ntasks=1 --cpus-per-task="$cpus")
steps=()
sweep=
caught=

# shellcheck disable=SC2317  # The traps call it.
tear_down() {
    trap '' TERM USR1
    for ((i = ${#steps[@]} - 1; i >= 0; i--)); do
        kill -TERM "${steps[i]}" 2> /dev/null || true
        wait "${steps[i]}" 2> /dev/null || true
    done
    for node in "${nodes[@]}"; do
        srun "${step[@]}" --nodelist="$node" rm -rf "$RAY_TMPDIR" || true
    done
}

# shellcheck disable=SC2317
pass_on() {
    caught=$1
    if [ -z "$sweep" ]; then
        exit 143
    fi
    kill -TERM "$sweep" 2> /dev/null || true
}

trap tear_down EXIT
trap 'pass_on TERM' TERM
trap 'pass_on USR1' USR1

common=(--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 --num-cpus="$cpus" --disable-usage-stats)
srun "${step[@]}" --nodelist="$head" \
    ray start --head --node-ip-address="$head_ip" --port="$port" --ray-client-server-port="$((port + 1))" \
    --include-dashboard=false "${common[@]}" --block &
steps+=("$!")

wait_for() {
    python - "$address" "$1" << 'PYTHON'
import logging
import sys
import time

import ray

address, wanted = sys.argv[1], int(sys.argv[2])
deadline = time.monotonic() + 300
while True:
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        break
    except (ConnectionError, RuntimeError, ValueError) as error:
        if time.monotonic() > deadline:
            sys.exit(f"no Ray at {address} within five minutes: {error}")
        time.sleep(2)
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{there} of {wanted} nodes joined within five minutes")
    time.sleep(1)
PYTHON
}

wait_for 1
for node in "${nodes[@]:1}"; do
    srun "${step[@]}" --nodelist="$node" ray start --address="$address" "${common[@]}" --block &
    steps+=("$!")
done
wait_for "${#nodes[@]}"
echo "Ray on ${#nodes[@]} nodes, $address"

linsweep launch "$@" --address "$address" &
sweep=$!
status=
until [ -n "$status" ]; do
    before=$caught
    # A signal ends the waiting, not the sweep.
    wait "$sweep" && code=0 || code=$?
    [ "$caught" != "$before" ] || status=$code
done

# 130: the sweep was interrupted, in order.
if [ "$caught" = USR1 ] && [ "$status" -eq 130 ]; then
    echo "the time limit is near: queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
