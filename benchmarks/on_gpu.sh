#!/usr/bin/env bash
# All that wants a GPU, one script after another, in ten minutes: bash benchmarks/on_gpu.sh [FOLDER] [further arguments]
#
# What each prints goes to FOLDER/NAME.log, figures of votes to FOLDER/votes_gpu.json. A script that fails, or takes
# longer than its seconds, does not keep the next ones from running. PYTHON says which Python. Status 1: not all is well.
cd "$(dirname "$0")/.." || exit
to=${1:-on_gpu}
shift
mkdir -p "$to"
status=0

run() { # SECONDS NAME ARGUMENTS...
    local seconds=$1 name=$2 began=$SECONDS
    shift 2
    timeout --kill-after=5 "$seconds" "${PYTHON:-python}" -u "benchmarks/$name.py" "$@" >"$to/$name.log" 2>&1
    local how=$?
    [ $how = 0 ] || status=1
    echo "== $name: status $how after $((SECONDS - began)) s"
    grep -v -e 'it/s\]' -e WARNING "$to/$name.log"
}

run 290 votes_gpu --json "$to/votes_gpu.json" "$@"
run 150 gpu_checks "$@"
run 90 image_embedding "$@"
run 50 image_generation "$@"
exit $status
