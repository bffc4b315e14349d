"""The process that runs llama.cpp: ``python -m gateway.embedded.engine ADAPTER...``.

Prints its address as one line of JSON, then serves until its standard input closes. Whoever started
it holds the other end, so that it cannot outlive them, however they end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import xllamacpp

from gateway.embedded.engine_limits import CONTEXT_TOKENS, MAX_THREADS, SLOTS
from router_models.experts.weights import find_weights


def start_server(weights: Path, adapters: list[Path]) -> xllamacpp.Server:
    """Start llama.cpp on a free port of the loopback interface; adapter i has id i, off by default."""
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapters]
    params.use_jinja = True
    params.ui = False
    params.warmup = False
    # Its cache of past prompts forgets which adapter computed them: with it, one expert would go on
    # from another's state. The cache within a slot does compare adapters and stays.
    params.cache_ram_mib = 0
    # llama.cpp's threads wait for each other spinning: one core stays free for everything else, or
    # a busy machine makes them a hundred times slower.
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = max(1, min(MAX_THREADS, (os.cpu_count() or 1) - 1))
    params.verbosity = 1
    return xllamacpp.Server(params)


def main(argv: list[str]) -> None:
    # Ctrl-C reaches the whole terminal; the gateway decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = start_server(find_weights(), [Path(a) for a in argv])
    print(json.dumps({"address": server.listening_address}), flush=True)
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # llama.cpp's threads hold nothing worth an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
