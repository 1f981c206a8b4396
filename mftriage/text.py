"""Strings out of dumps and logs are hostile: what happens to them at the door.

Renderers escape for their own format; this only makes sure that what they get is text.
"""

from __future__ import annotations

from datetime import datetime


def clean(raw: bytes | str, limit: int = 4096) -> str:
    """``raw`` as printable-safe text of at most ``limit`` characters.

    Bytes are taken as UTF-8, with what is not UTF-8 shown as ``\\xNN``.  Control characters
    other than tab and newline become ``\\xNN`` too, so that no terminal sequence survives.
    """
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\t\n" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def c_string(raw: bytes) -> str:
    """A NUL-terminated C string in a fixed-size array, cleaned."""
    return clean(raw.split(b"\0", 1)[0])


def parsed_utc(text: str | None) -> datetime | None:
    """The time that an ISO 8601 string ending in ``Z`` names; ``None`` for any other string."""
    # fromisoformat() needs no module that strptime() would import here and now
    try:
        return datetime.fromisoformat(text) if text and text.endswith("Z") else None
    except ValueError:
        return None
