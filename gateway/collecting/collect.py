"""Ask all prompts of all models, so many at once, and go on where an earlier run was stopped."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.collecting.asking import Asker
from gateway.collecting.journal import Answer, Journal, Judged, Likelihood
from gateway.collecting.judging import JUDGE_TOKENS, comparison, read_comparison, settle
from gateway.collecting.prompts import Prompt
from gateway.collecting.scores import Rule
from gateway.decision.catalog import CatalogModel
from gateway.errors import UpstreamError
from router_models.prompt_text import ask_of

#: One thing to do, and what it is for: told when it is done.
Job = Callable[[], Coroutine[Any, Any, None]]
#: Told (stage, jobs done, jobs in all).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """How to ask: tokens of an answer at most, temperature, and questions under way at once."""

    max_tokens: int
    temperature: float
    at_once: int


class Collection:
    """One run: what the journal lacks is asked, what it has is not."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        models: Mapping[str, CatalogModel],
        journal: Journal,
        asker: Asker,
        setting: Setting,
    ) -> None:
        self._prompts = prompts
        self._models = models
        self._journal = journal
        self._asker = asker
        self._setting = setting

    async def ask_all(self, rule: Rule, progress: Progress) -> None:
        """Bring the journal to where every prompt and model has its answer, or its likelihood.

        A question that fails is written down as such, and asked again by the next run.
        """
        pairs = [(p, m) for p in self._prompts for m in self._models]
        if rule.scoring == "loglik":
            missing = [
                (p, m)
                for p, m in pairs
                if p.references and self._journal.likelihood(p.prompt_id, m) is None
            ]
            jobs = [self._likelihood_job(p, m) for p, m in missing]
            await self._work("likelihoods", jobs, progress)
            return
        asked = [(p, m) for p, m in pairs if self._journal.answer(p.prompt_id, m) is None]
        await self._work("answers", [self._answer_job(p, m) for p, m in asked], progress)

    async def judge_all(self, judge: CatalogModel, baseline: str, progress: Progress) -> None:
        """Have every answer judged against the baseline's that was not, or has changed since."""
        jobs = []
        for prompt in self._prompts:
            against = self._journal.answer(prompt.prompt_id, baseline)
            for model in self._models:
                own = self._journal.answer(prompt.prompt_id, model)
                if model == baseline or own is None or against is None:
                    continue
                key = _pair_key(own.text or "", against.text or "")
                was = self._journal.judged(prompt.prompt_id, model)
                told = (judge.name, baseline, key)
                if was is None or (was.judge, was.baseline, was.answers) != told:
                    jobs.append(self._judge_job(prompt, own, against, judge))
        await self._work("verdicts", jobs, progress)

    async def _work(self, stage: str, jobs: Sequence[Job], progress: Progress) -> None:
        waiting = list(reversed(jobs))
        done = 0
        progress(stage, done, len(jobs))

        async def work() -> None:
            nonlocal done
            while waiting:
                await waiting.pop()()
                done += 1
                progress(stage, done, len(jobs))

        await asyncio.gather(*(work() for _ in range(min(self._setting.at_once, len(jobs)))))

    def _answer_job(self, prompt: Prompt, model: str) -> Job:
        async def ask() -> None:
            setting = self._setting
            try:
                said = await self._asker.answer(
                    self._models[model], prompt.messages, setting.max_tokens, setting.temperature
                )
            except UpstreamError as error:
                told = Answer(prompt_id=prompt.prompt_id, model=model, error=_told(error))
            else:
                told = Answer(
                    prompt_id=prompt.prompt_id,
                    model=model,
                    text=said.text,
                    prompt_tokens=said.prompt_tokens,
                    completion_tokens=said.completion_tokens,
                )
            self._journal.append(told)

        return ask

    def _likelihood_job(self, prompt: Prompt, model: str) -> Job:
        async def ask() -> None:
            try:
                found = await self._asker.surprise(
                    self._models[model], prompt.messages, prompt.references[0]
                )
            except UpstreamError as error:
                told = Likelihood(prompt_id=prompt.prompt_id, model=model, error=_told(error))
            else:
                told = Likelihood(
                    prompt_id=prompt.prompt_id,
                    model=model,
                    loss=found.loss,
                    tokens=found.tokens,
                    prompt_tokens=found.prompt_tokens,
                )
            self._journal.append(told)

        return ask

    def _judge_job(self, prompt: Prompt, own: Answer, against: Answer, judge: CatalogModel) -> Job:
        ask = ask_of(prompt.messages)
        texts = own.text or "", against.text or ""

        async def hear(first: str, second: str) -> str:
            question = comparison(ask, first, second, prompt.references)
            return (await self._asker.answer(judge, question, JUDGE_TOKENS, 0.0)).text

        async def compare() -> None:
            replies: list[str] = []
            score = error = None
            try:
                replies.append(await hear(*texts))
                replies.append(await hear(*reversed(texts)))
                verdicts = [read_comparison(reply) for reply in replies]
                if verdicts[0] is None or verdicts[1] is None:
                    error = "the judge gave no verdict"
                else:
                    score = settle(verdicts[0], verdicts[1])
            except UpstreamError as failure:
                error = _told(failure)
            self._journal.append(
                Judged(
                    prompt_id=prompt.prompt_id,
                    model=own.model,
                    judge=judge.name,
                    baseline=against.model,
                    answers=_pair_key(*texts),
                    score=score,
                    rationales=tuple(replies),
                    error=error,
                )
            )

        return compare


def _told(error: UpstreamError) -> str:
    return f"{error.code}: {error.message}"


def _pair_key(own: str, against: str) -> str:
    return hashlib.blake2b(
        f"{own}\0{against}".encode("utf-8", "replace"), digest_size=8
    ).hexdigest()
