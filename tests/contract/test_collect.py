"""``thalamus collect`` before scripted backends: what is asked, kept, scored, and what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateway.cli import main
from router_models.training.dataset import read_routing_data
from tests.fakes.backend import Act, Connection, ScriptedBackend, json_answer, scripted_backend

THALAMUS = Path(sys.executable).with_name("thalamus")
QUESTIONS = {f"q{n}": f"What is {n} + {n}?" for n in range(12)}


def write_prompts(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    rows = [
        {"prompt_id": name, "prompt": text, "reference": str(2 * int(name[1:])), "task": "sums"}
        for name, text in QUESTIONS.items()
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def chat(text: str, **fields: Any) -> bytes:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return json_answer({"choices": [choice], "usage": usage, **fields})


def answering(reply: Callable[[dict[str, Any]], bytes], wait_s: float = 0.0) -> Act:
    async def act(connection: Connection) -> None:
        await asyncio.sleep(wait_s)
        await connection.write(reply(connection.request.body))

    return act


def asked(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def good(body: dict[str, Any]) -> bytes:
    number = int(asked(body).split()[2])
    return chat(f"That makes {2 * number}." if body["model"] == "able" else "That makes 4.")


async def collect(*words: str) -> int:
    return await asyncio.to_thread(main, ["collect", *words])


def options(folder: Path, backend: ScriptedBackend, *more: str) -> list[str]:
    return [
        "--prompts", str(write_prompts(folder)), "--out", str(folder / "data.parquet"),
        "--backends", f"able={backend.url}", f"poor={backend.url}", "--concurrency", "4", *more,
    ]  # fmt: skip


BY_NUMBER = ("--score", "reference", "--match", "numeric")


async def test_answers_are_scored_into_what_training_reads(tmp_path: Path) -> None:
    async with scripted_backend() as backend:
        backend.will(answering(good))
        assert await collect(*options(tmp_path, backend, *BY_NUMBER)) == 0
        assert len(backend.requests) == 24
        body = backend.requests[0].body
        assert (body["max_tokens"], body["temperature"]) == (1024, 0.0)
    data = read_routing_data(tmp_path / "data.parquet")
    assert data.models == ("able", "poor")
    assert data.scores[:, 0].tolist() == [1.0] * 12
    assert data.scores[:, 1].sum() == 1.0, "only 2 + 2 makes 4"
    assert set(data.tasks) == {"sums"}
    assert data.completion_tokens[0].tolist() == [3.0, 3.0]
    assert set(data.splits) <= {"train", "val"}
    rows = pq.read_table(tmp_path / "data.parquet").to_pylist()
    assert {row["source"] for row in rows} == {"prompts"}


async def test_failures_are_missing_labels_and_asked_again(tmp_path: Path) -> None:
    def fails_for_q3(body: dict[str, Any]) -> bytes:
        if body["model"] == "able" and "3 + 3" in asked(body):
            return json_answer({"error": {"message": "too long", "type": "x"}}, 400)
        return good(body)

    async with scripted_backend() as backend:
        backend.will(answering(fails_for_q3))
        words = options(tmp_path, backend, *BY_NUMBER)
        assert await collect(*words) == 0
        rows = pq.read_table(tmp_path / "data.parquet").to_pylist()
        assert len(rows) == 23
        assert not [r for r in rows if (r["prompt_id"], r["model"]) == ("q3", "able")]
        journal = (tmp_path / "data.parquet.answers.jsonl").read_text()
        assert "too long" in journal
        before = len(backend.requests)
        backend.scripts.clear()
        backend.will(answering(good))
        assert await collect(*words) == 0
        assert len(backend.requests) == before + 1, "only what is missing is asked"
    assert pq.read_table(tmp_path / "data.parquet").num_rows == 24


async def test_a_backend_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    tried: Counter[str] = Counter()

    def busy_once(body: dict[str, Any]) -> bytes:
        key = body["model"] + asked(body)
        tried[key] += 1
        if tried[key] == 1 and "1 + 1" in asked(body):
            return json_answer({"error": {"message": "busy", "type": "x"}}, 503)
        return good(body)

    async with scripted_backend() as backend:
        backend.will(answering(busy_once))
        assert await collect(*options(tmp_path, backend, *BY_NUMBER)) == 0
    assert pq.read_table(tmp_path / "data.parquet").num_rows == 24


async def test_other_rules_need_no_new_answers(tmp_path: Path) -> None:
    async with scripted_backend() as backend:
        backend.will(answering(good))
        words = options(tmp_path, backend)
        assert await collect(*words, *BY_NUMBER) == 0
        count = len(backend.requests)
        assert await collect(*words, "--score", "reference", "--match", "exact", "--rescore") == 0
        assert len(backend.requests) == count
    scores = pq.read_table(tmp_path / "data.parquet")["score"].to_pylist()
    assert scores == [0.0] * 24, "no answer is a bare number"


async def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    async with scripted_backend() as backend:
        backend.will(answering(good, wait_s=0.1))
        words = ["collect", *options(tmp_path, backend, *BY_NUMBER)]
        journal = tmp_path / "data.parquet.answers.jsonl"
        kills = 0
        for wanted in (5, 12, 18):
            process = await asyncio.create_subprocess_exec(
                THALAMUS, *words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            while process.returncode is None:
                lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
                if lines > wanted:
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                    break
                await asyncio.sleep(0.01)
            await process.wait()
        assert kills == 3
        assert not (tmp_path / "data.parquet").exists()
        with journal.open("ab") as file:
            file.write(b'{"kind":"answer","prompt_id":"q1","mod')  # and one line cut short
        answered = {
            (line["prompt_id"], line["model"])
            for line in map(json.loads, journal.read_text().splitlines()[:-1])
            if line["kind"] == "answer"
        }
        before = len(backend.requests)
        assert await collect(*words[1:]) == 0
        assert len(backend.requests) - before == 24 - len(answered)
    lines = [json.loads(x) for x in journal.read_text().splitlines() if x.endswith("}")]
    pairs = Counter((x["prompt_id"], x["model"]) for x in lines if x["kind"] == "answer")
    assert set(pairs.values()) == {1}, "nothing is doubled"
    assert len(pairs) == 24, "nothing is lost"
    assert pq.read_table(tmp_path / "data.parquet").num_rows == 24


async def test_a_journal_of_other_prompts_or_settings_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_backend() as backend:
        backend.will(answering(good))
        words = options(tmp_path, backend, *BY_NUMBER)
        assert await collect(*words) == 0
        assert await collect(*words, "--max-tokens", "5") == 1
        assert "was begun with max_tokens 1024" in capsys.readouterr().err


def likelihoods(body: dict[str, Any]) -> bytes:
    """Four tokens of prompt; the reference's two cost the able model .5 and 1.5 nats each."""
    assert body["prompt_logprobs"] == 0
    tokens: list[Any] = [None, *({"7": {"logprob": -9.0, "rank": 1}} for _ in range(3))]
    if body["messages"][-1]["role"] == "assistant":
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False
        loss = 0.5 if body["model"] == "able" else 2.0
        tokens += [{"8": {"logprob": -loss}}, {"9": {"logprob": -3 * loss}}]
    return chat("x", prompt_logprobs=tokens)


async def test_likelihood_of_the_reference_is_a_loss_and_a_quality(tmp_path: Path) -> None:
    async with scripted_backend() as backend:
        backend.will(answering(likelihoods))
        assert await collect(*options(tmp_path, backend, "--score", "loglik")) == 0
    data = read_routing_data(tmp_path / "data.parquet")
    assert data.losses is not None
    assert data.losses[0].tolist() == [1.0, 4.0]
    assert data.scores[0].tolist() == pytest.approx([2.718281828**-1, 2.718281828**-4])
    assert data.prompt_tokens[0] == 4


async def test_a_backend_without_log_probabilities_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_backend() as backend:
        backend.will(answering(good))
        assert await collect(*options(tmp_path, backend, "--score", "loglik")) == 1
    assert "there is no label to write" in capsys.readouterr().err
    journal = (tmp_path / "data.parquet.answers.jsonl").read_text()
    assert "shows no log-probabilities of a prompt" in journal


def judges(verdict: Callable[[str], str]) -> Callable[[dict[str, Any]], bytes]:
    def reply(body: dict[str, Any]) -> bytes:
        if body["model"] != "judge":
            return chat(f"{body['model']} says {asked(body)}")
        return chat(f"Because.\nVerdict: {verdict(asked(body))}")

    return reply


def prefers_able(text: str) -> str:
    return "A" if "<answer A>\nable" in text else "B"


async def judged(
    folder: Path, verdict: Callable[[str], str], *more: str
) -> tuple[dict[str, list[float]], int]:
    async with scripted_backend() as backend:
        backend.will(answering(judges(verdict)))
        words = options(folder, backend)
        place = words.index("--backends") + 1
        words.insert(place, f"judge={backend.url}")
        rule = ("--score", "judge", "--judge", "judge", "--baseline", "poor")
        assert await collect(*words, *rule, *more) == 0
        count = sum(r.body["model"] == "judge" for r in backend.requests)
    scores: dict[str, list[float]] = {}
    for row in pq.read_table(folder / "data.parquet").to_pylist():
        scores.setdefault(row["model"], []).append(row["score"])
    return scores, count


async def test_a_judge_compares_in_both_orders(tmp_path: Path) -> None:
    scores, asked_judge = await judged(tmp_path, prefers_able)
    assert scores == {"able": [1.0] * 12, "poor": [0.5] * 12}
    assert asked_judge == 24
    text = (tmp_path / "data.parquet.answers.jsonl").read_text()
    journal = [json.loads(line) for line in text.splitlines()]
    kept = [line for line in journal if line["kind"] == "judged"]
    assert kept[0]["rationales"] == ["Because.\nVerdict: A", "Because.\nVerdict: B"]
    # What was judged is not judged again.
    _, again = await judged(tmp_path, prefers_able, "--rescore")
    assert again == 0


async def test_a_judge_that_likes_the_first_answer_finds_ties(tmp_path: Path) -> None:
    scores, _ = await judged(tmp_path, lambda _: "A")
    assert scores == {"able": [0.5] * 12, "poor": [0.5] * 12}


async def test_a_judge_without_a_verdict_gives_no_label(tmp_path: Path) -> None:
    scores, _ = await judged(tmp_path, lambda _: "maybe")
    assert scores == {"poor": [0.5] * 12}


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ('{"prompt_id": "a", "prompt": "x"}\n{"prompt_id": "a", "prompt": "y"}', "p.jsonl",
         "row 1: prompt_id 'a' stands already in row 0"),
        ('{"prompt_id": "a"}', "p.jsonl", "row 0: column 'prompt' is empty or missing"),
        ("[1]", "p.jsonl", "line 1: must be an object"),
        ("{", "p.jsonl", "line 1: is not JSON"),
        ("", "p.jsonl", "there are no rows"),
        ("prompt_id,prompt\na,x", "p.csv", "needs a column 'reference'"),
        ("x", "p.txt", "prompts are .parquet, .jsonl or .csv, not .txt"),
    ],
)  # fmt: skip
def test_prompts_that_cannot_be_used_are_named(
    tmp_path: Path, text: str, name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text(text)
    words = ["--prompts", str(path), "--out", str(tmp_path / "o.parquet"), "--backends"]
    assert main(["collect", *words, "m=http://127.0.0.1:1/v1", "--score", "reference"]) == 1
    assert told in capsys.readouterr().err
