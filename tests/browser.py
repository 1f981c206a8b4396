"""A real headless browser: the system's Chromium, else the one that playwright has fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, sync_playwright


def browsers() -> Iterator[Browser]:
    """A browser; the test is skipped, with the reason, where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            # Chromium's sandbox refuses root, which tests in a container are run by.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(
                "NO BROWSER: the dashboard was not tried. Install Debian's chromium, or run "
                f"`playwright install chromium` ({error.message.splitlines()[0]})"
            )
        yield browser
        browser.close()
