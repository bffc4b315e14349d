"""Write the dashboards as JSON: ``python -m deploy.grafana.generate``. A test keeps them in sync."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards import BOARDS

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """The text of each dashboard by its file name."""
    made = {}
    for make in BOARDS:
        text = JSONEncoder(sort_keys=True, indent=1).encode(make())
        made[f"{json.loads(text)['uid']}.json"] = text + "\n"
    return made


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
