#!/usr/bin/env bash
# Each fuzz target for SECONDS (60) under Atheris, in the conformance environment; a crash fails.
# Two run at a time.
set -euo pipefail
cd "$(dirname "$0")/../.."
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
targets=(request flags sse answers events lean relay)

fuzz() {
    mkdir "$found/$1"
    .venv.conformance/bin/python -m tests.security.fuzz_targets "$1" \
        "$found/$1" "tests/security/corpus/$1" \
        -max_total_time="$2" -max_len=4096 -timeout=30 -rss_limit_mb=2048 \
        -artifact_prefix="$found/crash-$1-" -print_final_stats=1 >"$found/$1.log" 2>&1 || true
}

for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    fuzz "$target" "${1:-60}" &
done
wait
for target in "${targets[@]}"; do
    echo "$target"
    grep -E 'number_of_executed|ERROR|Uncaught|Error:' "$found/$target.log" || true
    if ! grep -q 'Done .* runs' "$found/$target.log"; then
        tail -40 "$found/$target.log"
        exit 1
    fi
done
echo "${#targets[@]} targets, no crash"
