"""What tokens cost."""

from __future__ import annotations

import msgspec


class Price(msgspec.Struct, frozen=True):
    """USD per million tokens; ``cached_input`` is that of ``input`` where nothing else is said."""

    input: float
    output: float
    cached_input: float | None = None

    def cost_usd(
        self, prompt_tokens: float, output_tokens: float, cached_tokens: float = 0
    ) -> float:
        """Price of a request; ``cached_tokens`` are some of the prompt's."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh_tokens = prompt_tokens - cached_tokens
        return (
            fresh_tokens * self.input + cached_tokens * cached + output_tokens * self.output
        ) / 1e6
