"""One process of real vLLM: greedy tokens of a few prompts, as JSON on the last line of stdout.

usage: generate.py MODEL DTYPE TOKENS; the plugin's settings come from the environment.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_HOST_IP="127.0.0.1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_CPU_KVCACHE_SPACE="1",
    HF_HUB_OFFLINE="1",
)
PROMPTS = ["The river ran", "def fib(n):", "Once upon a time in the north", "1, 2, 3, 4,"]


def main() -> None:
    from vllm import LLM, SamplingParams

    model, dtype, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
    llm = LLM(
        model,
        dtype=dtype,
        max_model_len=256,
        max_num_seqs=8,
        enforce_eager="--compile" not in sys.argv,
    )
    before = counters()
    asked = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=1)
    answers = llm.generate(PROMPTS, asked)
    after = counters()
    found = {
        "tokens": [list(answer.outputs[0].token_ids) for answer in answers],
        "logprobs": [
            [steps[token].logprob for token, steps in zip(out.token_ids, out.logprobs, strict=True)]
            for out in (answer.outputs[0] for answer in answers)
        ],
        "prompt_tokens": sum(len(answer.prompt_token_ids) for answer in answers),
        "counters": [
            [a - b for a, b in zip(now, then, strict=True)]
            for now, then in zip(after, before or [[0] * len(row) for row in after], strict=True)
        ],
    }
    print(json.dumps(found))


def counters() -> list[list[int]]:
    """The plugin's rows in this process, none where vLLM's own experts run."""
    operator = sys.modules.get("thalamus_vllm.operator")
    return operator._counters.snapshot() if operator and operator._counters else []


if __name__ == "__main__":
    main()
