"""The kernels run in Triton's interpreter, which must be chosen before triton is imported."""

from __future__ import annotations

import os
from importlib.util import find_spec

if find_spec("triton") is None or find_spec("torch") is None:
    # Deselected by default; asked for by marker, "no tests ran" fails loudly.
    collect_ignore_glob = ["test_*.py"]
else:
    os.environ["TRITON_INTERPRET"] = "1"
