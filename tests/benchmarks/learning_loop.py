"""A bad router that gets better: real requests, scores of their answers, and ``thalamus learn``.

    python -m tests.benchmarks.learning_loop --figure docs/images/learning.svg --page docs/learning.md

A router is trained on losses that were given to the wrong models, and put before the embedded
experts. A gateway process serves traffic, prompts of the training split, and explores a share of it.
Every answer gets as its score what was measured of the expert that gave it, the probability of the
reference (per token), by ``POST /v1/feedback``. After every batch of requests ``thalamus learn run``
takes a step in a process of its own. What the router in force is worth is then told on the 600
evaluation prompts, which no traffic asks, from the losses of all experts there.

Since the score does not depend on the words of the answer, a backend that answers at once stands in
for the experts; with ``--engine`` the embedded engine answers, which takes hours on two cores.

At the end outcomes with the wrong names are named under ``learning.data``: what is trained on them
must be turned down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from gateway.embedded.demo import adapter_paths, demo_config, load_experts
from gateway.embedded.process import engine_running
from gateway.learning.versions import VersionStore
from router_models.artifact import load_suite, save
from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.predictions import predict_all
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.training.suite import train_suite
from tests.benchmarks.learning_report import draw, table
from tests.demo_process import THALAMUS, free_port
from tests.deploy.gateway_process import answering_backend

Matrix = NDArray[np.float64]

OUTCOMES = Path("router_models/datasets/expert_library.parquet")
AT_ONCE = 4


@dataclass(frozen=True)
class Worth:
    """What routing by one router is worth on the evaluation prompts, nats a token and scores."""

    loss: Interval
    quality: Interval
    optimal: Interval


@dataclass(frozen=True)
class Point:
    """The state after ``requests``: what the last step did, and the worth of what is in force."""

    requests: int
    step: str
    version: str
    worth: Worth


@dataclass(frozen=True)
class Bounds:
    """Without learning: the best expert for every prompt, and the best single one."""

    oracle_loss: float
    oracle_quality: float
    single: str
    single_loss: float
    single_quality: float


@dataclass(frozen=True)
class Course:
    bounds: Bounds
    points: list[Point]
    poisoned: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def misnamed(data: RoutingData) -> RoutingData:
    """Every model gets what was measured of its neighbour."""
    turn = np.roll(np.arange(len(data.models)), 1)
    losses = None if data.losses is None else data.losses[:, turn]
    return replace(data, scores=data.scores[:, turn], losses=losses)


def worth_of(artifact: Path, held_out: RoutingData) -> Worth:
    """Route every prompt to the highest predicted quality; intervals are 95 %, over prompts."""
    assert held_out.losses is not None
    router = load_suite(artifact).named("perceptive")
    columns = [router.models.index(model) for model in held_out.models]
    picks = predict_all(router, held_out.prompts).quality[:, columns].argmax(axis=1)
    rows = np.arange(len(picks))
    drawn = Resamples.draw(len(picks), seed=0)
    told = (
        held_out.losses[rows, picks],
        held_out.scores[rows, picks],
        (held_out.losses.argmin(axis=1) == picks).astype(np.float64),
    )
    loss, quality, optimal = (interval_of(drawn.means(values)) for values in told)
    return Worth(loss, quality, optimal)


def bounds_of(held_out: RoutingData) -> Bounds:
    assert held_out.losses is not None
    single = int(held_out.losses.mean(axis=0).argmin())
    return Bounds(
        float(held_out.losses.min(axis=1).mean()),
        float(held_out.scores.max(axis=1).mean()),
        held_out.models[single],
        float(held_out.losses[:, single].mean()),
        float(held_out.scores[:, single].mean()),
    )


class Traffic:
    """Asks the training prompts in a seeded order, over and over, and scores every answer."""

    def __init__(self, data: RoutingData, url: str, seed: int) -> None:
        self._data = data
        self._url = url
        self._draw = np.random.default_rng(seed)
        self._order: list[int] = []
        self.sent = 0

    async def send(self, requests: int) -> None:
        waiting = asyncio.Queue[int]()
        for _ in range(requests):
            if not self._order:
                self._order = self._draw.permutation(len(self._data.prompts)).tolist()
            waiting.put_nowait(self._order.pop())
        async with httpx2.AsyncClient(base_url=self._url, trust_env=False, timeout=120) as client:

            async def ask() -> None:
                while not waiting.empty():
                    await self._ask_and_score(client, waiting.get_nowait())

            await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        self.sent += requests

    async def _ask_and_score(self, client: httpx2.AsyncClient, prompt: int) -> None:
        body = {
            "model": "auto",
            "max_tokens": 1,
            "messages": [{"role": "user", "content": self._data.prompts[prompt]}],
        }
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        served = self._data.models.index(answer.json()["model"])
        score = float(self._data.scores[prompt, served])
        request_id = answer.headers["x-request-id"]
        said = await client.post("/v1/feedback", json={"request_id": request_id, "score": score})
        assert said.status_code == 200, said.text


@dataclass(frozen=True)
class Setting:
    """How much is asked and explored, and how many scored requests each step wants."""

    batch: int = 1_000
    batches: int = 6
    explored: float = 0.4
    min_shadow: int = 500
    seed: int = 0


def write_config(folder: Path, engine: str, port: int, setting: Setting) -> Path:
    experts = load_experts()
    models = demo_config(experts, engine, {}).model_dump(
        mode="json", include={"models"}, exclude_unset=True
    )
    document = {
        "server": {"port": port, "drain_s": 1},
        "router": {"artifact": str(folder / "bad-router")},
        "decision_log": {"path": str(folder / "decisions.jsonl"), "prompts": True, "keep_days": 30},
        "policies": {"live": {"exploration": {"share": setting.explored}}},
        "learning": {
            "folder": str(folder / "learning"),
            "min_scored": setting.batch // 2,
            "min_shadow": setting.min_shadow,
        },
        **models,
    }
    path = folder / "thalamus.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def gateway_running(config: Path, port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    with (config.parent / "gateway.log").open("wb") as log:
        process = subprocess.Popen([THALAMUS, "serve", "--config", config], stdout=log, stderr=log)
        try:
            deadline_s = time.monotonic() + 120
            while not _is_ready(url):
                assert process.poll() is None, (config.parent / "gateway.log").read_text()
                assert time.monotonic() < deadline_s, "the gateway is not ready"
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/ready", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def learn(config: Path) -> str:
    """One step, in a process of its own; what it said."""
    command = [THALAMUS, "learn", "--config", config, "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def train_badly(data: RoutingData, folder: Path) -> None:
    suite, report = train_suite(misnamed(data.training()))
    save(suite, folder, training=report.to_json(), metrics={})


def wait_until_in_use(url: str, version: str) -> None:
    """Until the gateway has noticed what was promoted."""
    deadline_s = time.monotonic() + 30
    while True:
        shown = httpx2.get(f"{url}/console/api/learning", trust_env=False).json()
        if shown["active"] is not None and shown["active"]["id"] == version:
            time.sleep(3)  # it looks every two seconds
            return
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def poison(config: Path, data: Path, folder: Path) -> None:
    """Name outcomes under ``learning.data`` in which every model has its neighbour's."""
    table = pq.read_table(data)
    rows = table.filter(pc.equal(table["split"], "train"))
    names = sorted(set(rows["model"].to_pylist()))
    after = dict(zip(names, names[1:] + names[:1], strict=True))
    wrong = pa.array([after[name] for name in rows["model"].to_pylist()])
    place = rows.schema.get_field_index("model")
    path = folder / "misnamed.parquet"
    pq.write_table(rows.set_column(place, "model", wrong).drop_columns(["loss"]), path)
    document = yaml.safe_load(config.read_text())
    document["learning"]["data"] = [str(path)]
    config.write_text(yaml.safe_dump(document))


def run_course(folder: Path, engine: str, setting: Setting, say: Any = print) -> Course:
    """Serve, score and learn in turn; ``engine`` is the address of who answers."""
    data = read_routing_data(OUTCOMES)
    held_out, bounds = data.evaluation(), bounds_of(data.evaluation())
    bad = folder / "bad-router"
    if not bad.is_dir():
        train_badly(data, bad)
    port = free_port()
    config = write_config(folder, engine, port, setting)
    store = VersionStore(folder / "learning")
    points = [Point(0, "served at first", load_suite(bad).version, worth_of(bad, held_out))]
    say(points[0])
    with gateway_running(config, port) as url:
        traffic = Traffic(data.training(), url, setting.seed)
        for _ in range(setting.batches):
            asyncio.run(traffic.send(setting.batch))
            time.sleep(0.5)  # the log is written by a thread of its own
            step = learn(config)
            active = store.read().active
            assert active is not None
            if active != points[-1].version:
                wait_until_in_use(url, active)
            points.append(
                Point(traffic.sent, step, active, worth_of(store.artifact(active), held_out))
            )
            say(points[-1])
        # Nothing may be in shadow when the poisoned data are judged.
        if (left := store.read().in_shadow) is not None:
            store.reject(left.id, "the course is over")
        poison(config, OUTCOMES, folder)
        said = learn(config)
        say(said)
        assert store.read().active == points[-1].version
    return Course(bounds, points, said)


@contextmanager
def at_once() -> Iterator[str]:
    """A backend that answers at once; its address."""
    with answering_backend() as url:
        yield url.removesuffix("/v1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="SVG file to draw the course into")
    parser.add_argument("--page", type=Path, help="Markdown page to write the table into")
    parser.add_argument("--raw", type=Path, help="JSON file of all that was measured")
    parser.add_argument("--batches", type=int, default=Setting.batches)
    parser.add_argument("--batch", type=int, default=Setting.batch)
    parser.add_argument("--engine", action="store_true", help="let the embedded engine answer")
    args = parser.parse_args()
    setting = Setting(batch=args.batch, batches=args.batches)
    answering = engine_running(adapter_paths(load_experts())) if args.engine else at_once()
    with tempfile.TemporaryDirectory() as folder, answering as engine:
        course = run_course(Path(folder), engine, setting)
    if args.raw:
        args.raw.write_text(json.dumps(course.to_json(), indent=1))
    if args.figure:
        args.figure.write_text(draw(course))
    if args.page:
        before, _, rest = args.page.read_text().partition("<!-- course: begin -->\n")
        after = rest.partition("<!-- course: end -->")[2]
        args.page.write_text(
            f"{before}<!-- course: begin -->\n{table(course)}<!-- course: end -->{after}"
        )
    print(table(course))


if __name__ == "__main__":
    main()
