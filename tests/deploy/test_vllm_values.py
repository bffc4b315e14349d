"""What deploy/vllm says of each served model is what the gateway's configuration takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.config import parse_config

VALUES = sorted((Path(__file__).parents[2] / "deploy" / "vllm" / "values").glob("*.yaml"))


def test_three_models_are_described() -> None:
    assert [path.stem for path in VALUES] == ["gpt-oss-20b", "mixtral-8x7b", "qwen3-30b-a3b"]


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_the_gateway_takes_what_the_file_says(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    assert set(values) == {
        "model", "served_name", "arguments", "environment", "gpus", "gateway",
    }  # fmt: skip
    assert values["served_name"] == path.stem
    assert all(argument.startswith("--") for argument in values["arguments"])
    model = {"backends": [{"url": "http://vllm:8000/v1"}], **values["gateway"]}
    config = parse_config({"models": {path.stem: model}}, str(path))
    served = config.models[path.stem]
    limits = [a for a in values["arguments"] if a.startswith("--max-model-len=")]
    assert limits == [f"--max-model-len={served.context_tokens}"]
    assert served.active_parameters_b < served.parameters_b
