"""The package lives in the kernels' environment, with scipy."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("expert_placement") is None:
    collect_ignore_glob = ["test_*.py"]
