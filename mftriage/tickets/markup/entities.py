"""Escaping by character references, for the wiki markups: no rule of theirs looks into one.

Jira's wiki markup and Redmine's Textile both leave ``&#123;`` alone until the browser shows it, while a
backslash means something else in each place where it may stand.
"""

from __future__ import annotations

import re

from mftriage.render.words import clip, visible

__all__ = ["LONGEST", "escaped", "kept_open"]

LONGEST = 1000  # characters of one string out of a dump

_TOKEN = re.compile(
    r"""
    # The first letter of what systems make a link of (a revision, r12; a commit; www.), and of what
    # begins a block ("bq. ").
      (?<![^\W_]) (?: r(?=\d+(?![^\W_])) | [0-9a-f](?=[0-9a-f]{6,39}(?![^\W_])) | w(?=ww\.) )
    | ^\w(?=\w*[.:])
    # What may stand as it is: letters, digits and blanks; a dot, an underscore or a slash within a word;
    # a hyphen between small letters (AB-12 is a reference); and what ends a word or a sentence.
    | (?P<kept> [^\W_] | [ '] | (?<=[^\W_])[._/](?=[^\W_]) | (?-i:(?<=[a-z])-(?=[a-z]))
      | (?<=\S)[.,:;](?=\s|$) | (?<=\d)[+](?=\d) )
    | .""",
    re.VERBOSE | re.IGNORECASE,
)


def escaped(text: str) -> str:
    """Return ``text``, on one line, with all that could mean something as character references."""
    text = clip(" ".join(visible(text).split()), LONGEST)
    return _TOKEN.sub(lambda token: token[0] if token["kept"] else f"&#{ord(token[0])};", text)


def kept_open(line: str, breaking: str) -> str:
    """Return a line of a log in which no ``breaking`` character stands before a letter, a slash or itself.

    So nothing in a block of preformatted lines can end the block.
    """
    shown = clip(visible(line), LONGEST)
    return re.sub(rf"([{re.escape(breaking)}])(?=[\w/!?{re.escape(breaking)}])", r"\1 ", shown)
