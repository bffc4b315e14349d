#!/usr/bin/env bash
# Each fuzz target for SECONDS (60) under Atheris, in the conformance environment; a crash fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for target in request flags sse answers events lean; do
    mkdir "$found/$target"
    .venv.conformance/bin/python -m tests.security.fuzz_targets "$target" \
        "$found/$target" "tests/security/corpus/$target" \
        -max_total_time="${1:-60}" -max_len=4096 -timeout=30 -rss_limit_mb=2048 \
        -artifact_prefix="$found/crash-$target-" -print_final_stats=1 2>&1 |
        tee "$found/$target.log" | grep -E 'number_of_executed|ERROR|Uncaught|Error:' || true
    if ! grep -q 'Done .* runs' "$found/$target.log"; then
        tail -40 "$found/$target.log"
        exit 1
    fi
done
echo "6 targets, no crash"
