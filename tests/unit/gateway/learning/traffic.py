"""Logged traffic of a small world: two kinds of prompts, two specialists, and a model that is so-so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gateway.config import load_config
from gateway.ledger.decision_records import DecisionRecord, FeedbackRecord, encode_record
from gateway.settings import Config
from gateway.upstream.usage import TokenUsage
from policies.types import Candidate, Exploration, Needs, Policy, RoutingFlags

CODE = "def return class import function list loop python string bug stack array"
LAW = "court contract plaintiff statute appeal judge liable clause tort evidence"
WORDS = {"code": CODE.split(), "law": LAW.split()}
MODELS = ("coder", "lawyer", "soso")
#: Chance that an answer is found good, by kind and model.
TRUTH = {"code": (0.9, 0.3, 0.6), "law": (0.3, 0.9, 0.6)}
FLAGS = RoutingFlags()


def kind_of(prompt: str) -> str:
    return max(WORDS, key=lambda kind: sum(word in WORDS[kind] for word in prompt.split()))


def worst(prompt: str) -> str:
    return MODELS[int(np.argmin(TRUTH[kind_of(prompt)]))]


def best(prompt: str) -> str:
    return MODELS[int(np.argmax(TRUTH[kind_of(prompt)]))]


class World:
    """Writes the log of a gateway whose router chooses by ``choose`` and explores a share."""

    def __init__(self, folder: Path, explored: float = 0.5, seed: int = 0, **learning: Any) -> None:
        self.log = folder / "decisions.jsonl"
        self.config_path = folder / "thalamus.yaml"
        self._draw = np.random.default_rng(seed)
        self._explored = explored
        self._asked = 0
        self.now_s = 1_000.0
        self._document = {
            "router": {"artifact": "none"},
            "decision_log": {"path": str(self.log), "prompts": True},
            "learning": {
                "folder": str(folder / "learning"),
                "min_scored": 200,
                "min_shadow": 100,
                **learning,
            },
            "models": {
                name: {"backends": [{"url": "http://127.0.0.1:1/v1"}], "quality_prior": prior}
                for name, prior in zip(MODELS, (0.5, 0.5, 0.6), strict=True)
            },
        }
        self.config_path.write_text(yaml.safe_dump(self._document))

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    def configure(self, **learning: Any) -> None:
        self._document["learning"].update(learning)  # type: ignore[attr-defined]
        self.config_path.write_text(yaml.safe_dump(self._document))

    def clock_s(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def prompt(self) -> str:
        kind = ("code", "law")[self._draw.integers(2)]
        return (
            " ".join(self._draw.choice(WORDS[kind], 8).tolist()) + f" {self._draw.integers(10**6)}"
        )

    def serve(
        self,
        requests: int,
        choose: Callable[[str], str],
        score: Callable[[str, str], float] | None = None,
    ) -> None:
        """Append requests with their scores; ``score`` says otherwise than the world does."""
        lines = []
        for _ in range(requests):
            self.now_s += 1.0
            prompt = self.prompt()
            record = self._decide(prompt, choose(prompt))
            good = self._draw.random() < TRUTH[kind_of(prompt)][MODELS.index(record.chosen)]
            given = float(good) if score is None else score(prompt, record.chosen)
            said = FeedbackRecord(at_s=self.now_s, request_id=record.request_id, score=given)
            lines += [encode_record(record), encode_record(said)]
        with self.log.open("ab") as log:
            log.write(b"".join(lines))

    def _decide(self, prompt: str, favourite: str) -> DecisionRecord:
        self._asked += 1
        explored = self._draw.random() < self._explored
        chosen = MODELS[self._draw.integers(3)] if explored else favourite
        even = self._explored / len(MODELS)
        chances = {m: even + (1 - self._explored) * (m == favourite) for m in MODELS}
        candidates = tuple(
            Candidate(m, 0.9 if m == favourite else 0.1, 0.0, 1.0, None, 20.0, None, None)
            for m in MODELS
        )
        return DecisionRecord(
            at_s=self.now_s, request_id=f"r{self._asked}", decision_id=f"d{self._asked}",
            policy_version="v", profile="best", candidates=candidates, flags=FLAGS, needs=Needs(),
            draw=0.0, stay_with=None,
            policy=Policy(exploration=Exploration("epsilon", self._explored)),
            arm="live", propensity=chances[chosen], chances=chances, shadow=None, chosen=chosen,
            order=(chosen, *(m for m in MODELS if m != chosen)), reason="", served=chosen,
            backend="b", outcome="ok", error_code=None, attempts=1,
            usage=TokenUsage(8, 0, 20), cost_usd=None, ttft_ms=None, duration_ms=1.0, prompt=prompt,
        )  # fmt: skip
