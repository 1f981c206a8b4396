"""The registry of formats."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mftriage.errors import UsageError
from mftriage.render import FORMATS, render, suffix
from tests.render.samples import SAMPLES


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_renders_every_sample(fmt: str, name: str) -> None:
    report = render(SAMPLES[name], fmt)
    assert report.endswith("\n")
    assert report == render(SAMPLES[name], fmt, color=False, width=100)


def test_suffixes_are_distinct() -> None:
    assert {suffix(fmt) for fmt in FORMATS} == {".txt", ".json", ".md", ".html"}


@pytest.mark.parametrize("call", [suffix, lambda fmt: render(SAMPLES["inconclusive"], fmt)])
def test_unknown_format_names_the_known_ones(call: object) -> None:
    with pytest.raises(UsageError) as caught:
        call("pdf")  # type: ignore[operator]
    assert "'pdf'" in caught.value.message
    assert all(fmt in caught.value.remedy for fmt in FORMATS)


def test_text_and_json_import_nothing_slow() -> None:
    code = (
        "import sys; from tests.render.samples import ARM64_GHES as t; "
        "from mftriage.render import render; render(t, 'text'); render(t, 'json'); "
        "print([m for m in ('pydantic', 'jinja2', 'rich', 'drgn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
