"""A backend that writes one text at temperature 0, as vLLM does: it can be made to go on with a part.

It is asked by ``continue_final_message`` where to begin, counts its tokens with every event where that
is asked for, and breaks off when and how it is told.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.backend import DONE, END_OF_STREAM, STREAM_HEAD, Connection, chunked

#: With white space at the end of tokens, at the beginning, alone, and characters of several bytes.
TOKENS = (
    "Hel",
    "lo",
    ", ",
    "wor",
    "ld",
    "! ",
    "\n\n",
    "Grüße",
    " an",
    " 你",
    "好",
    " \n",
    "En",
    "de",
)
TEXT = "".join(TOKENS)
PROMPT_TOKENS = 10
#: Ways of breaking off after which nothing more can come.
CUTS = ("reset", "end", "half event", "half character", "error event", "silence")


@dataclass
class Writer:
    """``breaks_after`` so many tokens, by doing ``then``; the next event is cut in its middle."""

    name: str
    breaks_after: int | None = None
    then: str = "reset"
    #: Whether it knows how to count with every event.
    counts: bool = True
    #: What else its deltas hold.
    delta: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    #: Waited for before the first byte of an answer.
    may_begin: asyncio.Event | None = None
    left: int = 0

    async def __call__(self, connection: Connection) -> None:
        body = connection.request.body
        self.asked.append(body)
        if self.may_begin is not None and not await self._may_begin(connection):
            return
        tokens = _tokens(body)
        await connection.write(STREAM_HEAD + chunked(self._event(body, 0, role="assistant")))
        for number, token in enumerate(tokens):
            is_last = number + 1 == len(tokens)
            said = self._event(body, number + 1, content=token, finish="stop" if is_last else None)
            if number == self.breaks_after:
                await self._break_off(connection, said)
                return
            await connection.write(chunked(said))
        usage = self._event(body, len(tokens), is_usage=True)
        await connection.write(chunked(usage, DONE) + END_OF_STREAM)

    async def _may_begin(self, connection: Connection) -> bool:
        assert self.may_begin is not None
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        allowed = asyncio.ensure_future(self.may_begin.wait())
        await asyncio.wait({leaving, allowed}, return_when=asyncio.FIRST_COMPLETED)
        self.left += leaving.done()
        for waiting in (leaving, allowed):
            waiting.cancel()
        return not self.left

    def _event(
        self,
        body: dict[str, Any],
        written: int,
        *,
        role: str | None = None,
        content: str = "",
        finish: str | None = None,
        is_usage: bool = False,
    ) -> bytes:
        read = PROMPT_TOKENS + 5 * bool(body.get("continue_final_message"))
        delta = {"content": content, **({"role": role} if role else self.delta)}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {
            "id": f"chatcmpl-{self.name}",
            "object": "chat.completion.chunk",
            "created": len(self.name),
            "model": "served-name",
            "choices": [] if is_usage else [choice],
        }
        if is_usage or (self.counts and body["stream_options"].get("continuous_usage_stats")):
            chunk["usage"] = {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            }
        return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"

    async def _break_off(self, connection: Connection, said: bytes) -> None:
        half = len(said) // 2
        if self.then == "half character":
            half = next((i + 1 for i, byte in enumerate(said) if byte > 0x7F), half)
        if self.then.startswith("half"):
            await connection.write(b"%x\r\n%b" % (len(said), said[:half]))
        elif self.then in {"error event", "refusal"}:
            code = 500 if self.then == "error event" else 400
            error = {"error": {"message": "EngineCore died", "code": code}}
            await connection.write(chunked(b"data: " + json.dumps(error).encode() + b"\n\n", DONE))
        if self.then == "silence":
            await connection.wait_until_client_leaves()
        elif self.then == "end":
            await connection.write(END_OF_STREAM)
        else:
            connection.reset()


def _tokens(body: dict[str, Any]) -> list[str]:
    """What it writes: all, or from where it is to go on, cut into tokens in another way."""
    if not body.get("continue_final_message"):
        return list(TOKENS)
    assert body["add_generation_prompt"] is False, "vLLM refuses both"
    begun = body["messages"][-1]
    assert begun["role"] == "assistant"
    assert TEXT.startswith(begun["content"])
    rest = TEXT[len(begun["content"]) :]
    return [rest[i : i + 3] for i in range(0, len(rest), 3)]
