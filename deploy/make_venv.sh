#!/bin/sh
# Create a virtual environment with the first suitable Python, and put a pinned uv into it.
# usage: make_venv.sh FOLDER UV_VERSION
set -eu
venv=$1
uv_version=$2

is_suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! { [ -x "$venv/bin/python" ] && is_suitable "$venv/bin/python"; }; then
    for candidate in python3.13 python3.12 python3.11 python3.14 python3; do
        if command -v "$candidate" >/dev/null 2>&1 && is_suitable "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "${python:-}" ]; then
        echo "thalamus needs Python 3.11 or newer: install it, for example with: apt-get install python3 python3-venv" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python cannot make virtual environments: install them, on Debian and Ubuntu with: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "Installing into $venv with $("$python" --version), about a minute the first time …"
    "$python" -m venv "$venv"
fi
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
fi
