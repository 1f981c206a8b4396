"""Escaping by character references, for the wiki markups: no rule of theirs looks into one.

Jira's wiki markup and Redmine's Textile both leave ``&#123;`` alone until the browser shows it, while a
backslash means something else in each place where it may stand.
"""

from __future__ import annotations

import re

from mftriage.render.words import clip, visible

__all__ = ["escaped", "kept_open"]

_LONGEST = 1000

# What may stand as it is: letters, digits and blanks; a dot, an underscore or a slash within a
# word; a hyphen between small letters (AB-12 is a reference); and what ends a word or a sentence.
_KEPT = re.compile(
    r"[^\W_]|[ ]|(?<=[^\W_])[._/](?=[^\W_])|(?<=[a-z])-(?=[a-z])|(?<=\S)[.,:;](?=\s|$)|(?<=\d)[+](?=\d)|'"
)
# Words that systems make links of: a revision (r12), a commit, an issue (user#1 and AB-12 have marks).
_WORD = re.compile(
    r"(?i)(?<![^\W_])(?:r(?=\d+(?![^\W_]))|(?=[0-9a-f]{7,40}(?![^\W_]))[0-9a-f]|w(?=ww\.))"
)


def escaped(text: str) -> str:
    """Return ``text``, on one line, with all that could mean something as character references."""
    text = clip(" ".join(visible(text).split()), _LONGEST)
    text = _WORD.sub(lambda match: f"\0{ord(match[0])}\0", text)
    made, at = [], 0
    while at < len(text):
        if text[at] == "\0":
            end = text.index("\0", at + 1)
            made.append(f"&#{text[at + 1 : end]};")
            at = end + 1
        else:
            kept = _KEPT.match(text, at)
            made.append(text[at] if kept else f"&#{ord(text[at])};")
            at += 1
    return "".join(made)


def kept_open(line: str, breaking: str) -> str:
    """Return a line of a log in which no ``breaking`` character stands before a letter, a slash or itself.

    So nothing in a block of preformatted lines can end the block.
    """
    shown = clip(visible(line), _LONGEST)
    return re.sub(rf"([{re.escape(breaking)}])(?=[\w/!?{re.escape(breaking)}])", r"\1 ", shown)
