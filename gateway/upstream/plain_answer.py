"""A whole answer with the cost and the served model's name written in, every other byte left alone.

Taking an answer apart and putting it together again costs more than asking for it, so the two values
are written over where they stand. Where that is not beyond doubt, ``restamped`` declines.
"""

from __future__ import annotations

import msgspec

#: What separates a name and its value in JSON as servers write it.
_SEPARATORS = (b":", b": ")


def restamped(
    body: bytes, told: str | None, model: str, usage: bytes, cost_usd: float | None
) -> bytes | None:
    """Return ``body``, a JSON object, with ``model`` and ``usage.cost`` set.

    ``told`` is the model it names, ``usage`` its ``usage`` as it stands there, b"" for none. None
    when either stands more than once, or the cost stands there already.
    """
    if cost_usd is not None and usage:
        at = body.find(usage)
        # Alone in the body, so it is what the decoder found under the object's own ``usage``.
        is_alone = at >= 0 and body.find(usage, at + 1) < 0
        if not is_alone or b'"cost"' in usage or not usage[1:-1].strip():
            return None
        cost = msgspec.json.encode(cost_usd)
        end = at + len(usage)
        body = b'%b,"cost":%b}%b' % (body[: end - 1], cost, body[end:])
    if told == model:
        return body
    return None if told is None else renamed(body, told, model)


def renamed(body: bytes, told: str, model: str) -> bytes | None:
    """Return ``body``, a JSON object, with ``model`` in the place of ``told``; None when in doubt."""
    value = msgspec.json.encode(told)
    if body.count(b'"model"') != 1:
        return None
    for separator in _SEPARATORS:
        field = b'"model"' + separator + value
        if body.count(field) == 1:
            return body.replace(field, b'"model"' + separator + msgspec.json.encode(model), 1)
    return None
