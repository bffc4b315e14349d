"""The secrets of this process, so that nothing repeats them: servers quote the key that they refuse."""

from __future__ import annotations

#: Shorter ones are words that a text may hold by chance.
SHORTEST = 8
_known: set[str] = set()


def remember_secret(secret: str) -> None:
    """Mask this from now on, wherever ``mask`` is asked."""
    if len(secret) >= SHORTEST:
        _known.add(secret)


def mask(text: str) -> str:
    """The text with every secret in it replaced by ``***``."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, "***")
    return text
