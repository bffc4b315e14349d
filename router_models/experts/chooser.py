"""Ask the embedded language model itself which model fits a prompt: the zero-shot chooser.

Tryage (arXiv 2308.11601) put the same question to GPT-3.5 and Gorilla. A grammar holds the answer
to one of the letters, so that every answer counts; the model runs in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_uppercase

import xllamacpp

from router_models.experts.members import Member

#: Characters of a prompt that it is shown; the rest would not change its mind.
_SHOWN = 800
_CONTEXT_TOKENS = 2048


def choose_by_asking(
    weights: Path,
    members: Sequence[Member],
    prompts: Sequence[str],
    threads: int,
    report: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Return the model named for every prompt, at temperature 0."""
    server = _start(weights, threads)
    letters = ascii_uppercase[: len(members)]
    chosen = []
    for number, prompt in enumerate(prompts, 1):
        request = {
            "messages": [{"role": "user", "content": question(members, prompt)}],
            "max_tokens": 1,
            "temperature": 0,
            "grammar": f"root ::= [{letters[0]}-{letters[-1]}]",
            "cache_prompt": True,
        }
        answer = server.handle_chat_completions(request)
        text = answer["choices"][0]["message"]["content"]
        chosen.append(members[letters.index(text.strip())].model)
        report(number)
    return chosen


def question(members: Sequence[Member], prompt: str) -> str:
    """Describe every model in a line and ask for the letter of the best."""
    lines = [
        f"{letter}: {describe(member)}"
        for letter, member in zip(ascii_uppercase, members, strict=False)
    ]
    return (
        "These language models can answer a prompt:\n"
        + "\n".join(lines)
        + "\nWhich one answers the following prompt best? Reply with its letter only.\n\nPrompt: "
        + prompt[:_SHOWN]
    )


def describe(member: Member) -> str:
    """Say in words what a model is for and how large it is."""
    if not member.domains:
        purpose = "a general model"
    else:
        purpose = "an expert for " + " and ".join(member.domains)
    return f"{purpose}, {member.layers} layers, {member.size_mb:.0f} MB"


def _start(weights: Path, threads: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.port = 0
    params.n_parallel = 1
    params.n_ctx = _CONTEXT_TOKENS
    params.use_jinja = True
    params.ui = False
    params.warmup = False
    params.verbosity = 1
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = threads
    return xllamacpp.Server(params)
