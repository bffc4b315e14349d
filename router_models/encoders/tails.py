"""Where a text is cut, so that it and what is left without its beginning can be read at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def pieces_of(text: str, starts: Sequence[int]) -> list[str]:
    """Cut a text at ``starts``: 0 and then, ascending, places where a word begins after a space.

    Nothing that an encoder counts goes across such a cut, save pairs of words and phrases.
    """
    return [text[start:end] for start, end in pairwise((*starts, len(text)))]
