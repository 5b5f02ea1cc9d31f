"""How much of a value is shown where the value itself must not be."""

from __future__ import annotations


def masked(value: object, *, secret: bool = False) -> str:
    """A value as it may be shown: enough to find it again in one's own file, too little to use.

    Secrets keep at most their last two characters, everything else its first and last one. Characters that show
    nothing, or that turn the text around them, are left out.
    """
    text = "".join(filter(str.isprintable, "" if value is None else str(value)))
    if not text:
        return ""
    if secret:
        return f"…{text[-2:]}" if len(text) > 5 else "…"  # noqa: PLR2004 - a short one would be given away
    if "@" in text:
        name, _, domain = text.rpartition("@")
        return f"{name[:1]}…@{domain[:1]}…"
    return f"{text[:1]}…{text[-1:]}" if len(text) > 3 else "…"  # noqa: PLR2004
