"""Pure decision logic: given what is known of each model, who should answer. No I/O, no async."""

from policies.choose import choose

__all__ = ["choose"]
