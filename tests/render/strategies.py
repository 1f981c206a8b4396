"""Arbitrary triages: every field of every type, with the strings that a hostile dump may hold."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mftriage.model import SCHEMA_VERSION, Triage

QUICK = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
    "\x9b31m",
    "line\r\nbreak\n# heading\n- item\n\n---\n",
    "\n/close\n",
    "tab\there\x00nul\x7f",
    "\u202egnp.exe\u2066\u200b\u2028\u2029\ufeff",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus=alert(1) '",
    "<!-- comment --> <![CDATA[x]]> <?php ?>",
    "&lt;b&gt; &#64;team &amp;",
    "[/markup] [bold]x",
    "{{ 7*7 }} {% raw %}",
    "`tick` ``two`` ```three``` ````four",
    "```\n</pre>\n~~~\n",
    "@team @org/team a@b.example (@me) ¡@you",
    "![pixel](http://evil.example/x.png) [link](javascript:alert(1)) <http://evil.example>",
    "http://evil.example www.evil.example ftp://x.example mailto:a@b.example",
    "[ref]: http://evil.example",
    "#1 org/repo#2 GH-3 !4 ~label %5 $6 CVE-2026-1 [#1] SMP :bomb:",
    "| a | b \\| c \\\\| d |",
    "\\",
    "**bold** __bold__ *it* _it_ ~~gone~~ ***",
    "1. one",
    "- dash",
    "> quote",
    "===",
    "\ud800lone\udcff",
    "漢字" * 40,
    "e\u0301" * 20,
    "x" * 300,
    "word " * 70,
)

TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=12),
    st.builds("{}{}{}".format, st.text(max_size=3), st.sampled_from(HOSTILE), st.text(max_size=3)),
    st.sampled_from(("dentry", "kworker/0:0", "reserved kernel page", "0x1741", "")),
)
HEX = st.one_of(
    st.integers(0, 2**64 - 1).map(hex),
    st.sampled_from(("0x1741", "0x17413c0", "0x1741000", "0xffffffffffffffc0")),
    TEXT,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.one_of(st.sampled_from((0, 1, 4096, 65536)), st.integers(-(2**53), 2**53))


def saturate(value: Any, text: str, hint: Any = None) -> Any:
    """Return a triage with ``text`` in every string that a dump may fill in."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        return replace(
            value,
            **{
                field.name: saturate(getattr(value, field.name), text, hints[field.name])
                for field in fields(value)
            },
        )
    if isinstance(value, tuple):
        (item_hint,) = {option for option in get_args(_present(hint)) if option is not ...}
        return tuple(saturate(item, text, item_hint) for item in value)
    return text if isinstance(value, str) and _present(hint) is str else value


def _present(hint: Any) -> Any:
    """Return the type without its ``| None``."""
    options = [option for option in get_args(hint) if option is not types.NoneType]
    return options[0] if get_origin(hint) in (Union, types.UnionType) else hint


def _of(hint: Any, name: str) -> st.SearchStrategy[Any]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_of(option, name) for option in get_args(hint)))
    if origin is Literal:
        return st.sampled_from(get_args(hint))
    if origin is tuple:
        return st.lists(_of(get_args(hint)[0], name), max_size=4).map(tuple)
    if is_dataclass(hint):
        return _build(hint)
    if hint is str:
        hexes = ("pfn", "address", "mask", "offset", "status", "addr")
        return HEX if any(word in name for word in hexes) else TEXT
    return {int: INTEGERS, float: FLOATS, bool: st.booleans(), types.NoneType: st.none()}[hint]


def _build(kind: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    values = {field.name: _of(hints[field.name], field.name) for field in fields(kind)}
    if "schema_version" in values:
        values["schema_version"] = st.just(SCHEMA_VERSION)
    return st.builds(kind, **values)


def triages() -> st.SearchStrategy[Triage]:
    """Return a strategy for any ``Triage`` that the types allow."""
    return _build(Triage)
