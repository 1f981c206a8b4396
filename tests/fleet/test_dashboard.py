"""The dashboard in a real browser: it sorts, filters, links and prints, for everybody."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from mftriage.fleet import load, render
from mftriage.fleet.dashboard import MOST
from mftriage.text import clean
from tests.browser import browsers
from tests.fleet import small, synthetic
from tests.render.strategies import HOSTILE

browser = pytest.fixture(scope="module")(browsers)
Open = Callable[..., Page]


def write(folder: Path) -> Path:
    target = folder / "index.html"
    target.write_bytes(render(folder, "html", target=target)[0])
    return target


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(small.write(tmp_path_factory.mktemp("fleet")))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(synthetic.write(tmp_path_factory.mktemp("large"), 10_000))


@pytest.fixture
def show(browser: Browser) -> Iterator[Open]:
    """Opens a page from its file; fails if it says anything on the console or asks for anything."""
    contexts = []
    said: list[str] = []

    def opened(path: Path, hash: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        page.on(
            "request", lambda request: request.url.startswith("file:") or said.append(request.url)
        )
        page.goto(path.as_uri() + hash)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def column(page: Page, number: int) -> list[str]:
    """The first line of each cell of a column."""
    return page.eval_on_selector_all(
        f"#body td:nth-child({number})", "cells => cells.map(cell => cell.firstChild.textContent)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("which", ["fleet", "large", "empty"])
def test_axe_finds_nothing(
    browser: Browser,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    which: str,
    scheme: Any,
    width: int,
) -> None:
    if which == "empty":
        (tmp_path / "results").mkdir()
        path = write(tmp_path)
    else:
        path = request.getfixturevalue(which)
    # axe is put into the page, which its own policy forbids
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True
    )
    page = context.new_page()
    page.goto(path.as_uri())
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    found = Axe().run(page).response["violations"]
    context.close()
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]][:3]) for v in found] == []


@pytest.mark.parametrize("width", [320, 600, 820, 1280])
def test_nothing_is_wider_than_the_screen(show: Open, fleet: Path, width: int) -> None:
    page = show(fleet, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_figures_are_those_of_the_table(show: Open, fleet: Path) -> None:
    page = show(fleet)
    expect(page.locator("h1")).to_have_text(
        f"Memory is blamed for {small.MEMORY} of {len(small.NAMES)} dumps, on 7 hosts."
    )
    expect(page.get_by_role("status")).to_have_text(f"{small.DUMPS} dumps.")
    assert len(column(page, 1)) == small.DUMPS


def test_it_sorts_by_every_column(show: Open, fleet: Path) -> None:
    page = show(fleet)
    for number, name in enumerate(("Crashed", "Host", "Verdict", "Memory", "Kernel", "Error"), 1):
        head = page.locator(f"thead th:nth-child({number})", has=page.locator("button")).last
        button = head.get_by_role("button", name=re.compile(name))
        if number > 1:
            button.click()
        before = head.get_attribute("aria-sort")
        values = column(page, number)
        button.click()
        assert {before, head.get_attribute("aria-sort")} == {"ascending", "descending"}
        assert page.locator("th[aria-sort]").count() == 1
        known = [value for value in values if value not in ("–", "not known")]
        again = [value for value in column(page, number) if value not in ("–", "not known")]
        assert known == again[::-1] or sorted(known) == sorted(again)
        # what is not known comes last, either way
        assert column(page, number)[: len(again)] == again and values[: len(known)] == known
        if number in (1, 2):
            assert again == sorted(again, reverse=head.get_attribute("aria-sort") == "descending")


def test_durations_sort_by_length(show: Open, fleet: Path) -> None:
    page = show(fleet)
    page.get_by_role("button", name="Error to crash").click()
    assert column(page, 6)[:2] == ["35.1 s", "10.1 s"]


def test_filters(show: Open, fleet: Path) -> None:
    page = show(fleet)
    frame = load(fleet.parent)
    status = page.get_by_role("status")
    page.locator("#verdict").select_option("delayed-crash")
    expect(status).to_have_text(f"{small.KINDS['delayed-crash']} of {small.DUMPS} dumps.")
    assert set(column(page, 3)) == {"delayed-crash"}
    page.get_by_label("Search").fill("  EXTERNAL abort-FNV ")
    expect(status).to_have_text(f"1 of {small.DUMPS} dumps.")
    page.get_by_role("button", name="Clear").click()
    expect(status).to_have_text(f"{small.DUMPS} dumps.")
    page.locator("#host").fill("NODE3")
    expect(status).to_have_text(f"{int((frame['host'] == 'node3').sum())} of {small.DUMPS} dumps.")
    assert set(column(page, 2)) == {"node3"}
    page.locator("#host").fill("")
    page.get_by_label("Since").fill("2026-11-24")
    expect(status).to_have_text(f"None of {small.DUMPS} dumps fits.")
    page.get_by_label("Since").fill("2026-11-23")
    expect(status).to_have_text(
        f"{small.DUMPS - 1} of {small.DUMPS} dumps."
    )  # the broken one has no time
    page.get_by_role("button", name="Clear").click()
    page.locator("#verdict").select_option("failed")
    expect(status).to_have_text(f"1 of {small.DUMPS} dumps.")
    expect(page.locator("#body small").last).to_have_text("it is cut short")


def test_what_is_chosen_can_be_passed_on(show: Open, fleet: Path) -> None:
    page = show(fleet)
    page.locator("#verdict").select_option("unrelated")
    page.get_by_role("button", name="Host").click()
    link = page.url
    again = show(fleet, hash=link[link.index("#") :])
    expect(again.get_by_role("status")).to_have_text(
        f"{small.KINDS['unrelated']} of {small.DUMPS} dumps."
    )
    assert column(again, 2) == column(page, 2)
    assert again.locator("#verdict").input_value() == "unrelated"
    expect(again.locator("th[data-sort=host]")).to_have_attribute("aria-sort", "ascending")
    odd = show(fleet, hash="#sort=__proto__&since=x&verdict=%3Cb%3E&up=1&text=%00")
    expect(odd.get_by_role("status")).to_have_text(f"None of {small.DUMPS} dumps fits.")


def test_a_name_in_a_figure_filters_the_table(show: Open, fleet: Path) -> None:
    page = show(fleet)
    card = page.locator("section", has=page.get_by_role("heading", name="Slab caches"))
    card.get_by_role("button", name="dentry").click()
    assert page.get_by_label("Search").input_value() == "dentry"
    assert set(column(page, 4)) >= {"dentry"}
    page.get_by_role("button", name="Hardware error, but not of memory").click()
    assert page.locator("#verdict").input_value() == "hardware-not-memory"
    assert page.evaluate("document.activeElement.id") == "dumps"


def test_every_row_links_to_its_report(show: Open, fleet: Path) -> None:
    page = show(fleet)
    links = page.eval_on_selector_all("#body a", "all => all.map(a => a.getAttribute('href'))")
    assert len(links) == len(small.NAMES)  # the failed dump has none
    assert all((fleet.parent / link).is_file() for link in links)
    page.get_by_label("Search").fill("x86_64-task/")
    expect(page.get_by_role("status")).to_have_text(f"1 of {small.DUMPS} dumps.")
    page.get_by_role("link", name=re.compile("^Report of node")).click()
    expect(page.locator("h1")).to_contain_text("page 0x285d")


def test_elsewhere_it_does_not_link(tmp_path: Path, fleet: Path) -> None:
    page = render(fleet.parent, "html", target=tmp_path / "index.html")[0].decode()
    assert "lies outside of the batch" in page and '<a href="reports' not in page


def test_by_keyboard(show: Open, fleet: Path) -> None:
    page = show(fleet)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "dumps"
    page.get_by_label("Search").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Kernel":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("th[data-sort=kernel]")).to_have_attribute("aria-sort", "ascending")
    assert page.evaluate("document.activeElement.textContent") == "Kernel"
    page.keyboard.press("Space")
    expect(page.locator("th[data-sort=kernel]")).to_have_attribute("aria-sort", "descending")


def test_pages(show: Open, large: Path) -> None:
    page = show(large)
    expect(page.locator("#where")).to_have_text("Page 1 of 200")
    first = column(page, 2)
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#where")).to_have_text("Page 2 of 200")
    assert column(page, 2) != first
    page.get_by_role("button", name="Previous").click()
    assert column(page, 2) == first
    assert page.evaluate("document.activeElement.id") == "after"
    page.get_by_label("Rows").select_option("1000")
    expect(page.locator("#where")).to_have_text("Page 1 of 10")
    assert len(column(page, 1)) == 1000


def test_ten_thousand_rows_without_a_lag(show: Open, large: Path) -> None:
    page = show(large)
    took = page.evaluate(
        """() => {
          const times = {};
          const timed = (name, what) => { const start = performance.now(); what(); times[name] = performance.now() - start; };
          for (const sort of ["host", "verdict", "delay", "kernel", "time"])
            timed(sort, () => document.querySelector(`th[data-sort=${sort}] button`).click());
          const verdict = document.getElementById("verdict");
          verdict.value = "unrelated";
          timed("filter", () => verdict.dispatchEvent(new Event("change")));
          document.getElementById("text").value = "node00";
          timed("next", () => document.getElementById("after").click());
          return times;
        }"""
    )
    assert max(took.values()) < 500, took


def test_without_scripts_the_newest_are_there(show: Open, large: Path) -> None:
    page = show(large, java_script_enabled=False)
    assert page.locator("#body tr").count() == 50
    expect(page.locator("h1")).to_be_visible()
    assert not page.locator(".filters").is_visible() and not page.locator(".pages").is_visible()
    expect(page.get_by_text("need scripts")).to_be_visible()


def test_with_scripts_the_first_rows_are_the_same(show: Open, fleet: Path) -> None:
    def cells(page: Page) -> list[str]:
        return [re.sub(r"\s+", " ", text) for text in page.locator("#body td").all_text_contents()]

    assert cells(show(fleet, java_script_enabled=False)) == cells(show(fleet))


def test_charts_have_names_and_tables(show: Open, fleet: Path) -> None:
    page = show(fleet)
    for name in ("Time from the error to the crash", "Crashes by week"):
        assert page.get_by_role("img", name=name).count() == 1
        table = page.get_by_role("region", name=f"{name}, as a table")
        assert not table.is_visible()
    page.get_by_text("As a table").first.click()
    expect(page.get_by_role("row", name=re.compile(r"^under 10 ms \d+ 0$"))).to_be_visible()


def test_on_paper(show: Open, fleet: Path) -> None:
    page = show(fleet)
    page.emulate_media(media="print")
    assert not page.locator(".filters").is_visible()
    expect(page.locator("#body tr").first).to_be_visible()
    assert page.pdf().startswith(b"%PDF")


def test_hostile_strings_are_text(show: Open, tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE):
        row = dict.fromkeys(
            ("host", "summary", "kernel", "dimm", "dimm_label", "slab_cache", "pfn"), text
        )
        small.put(tmp_path, f"{number} {text}", row={**row, "verdict": "delayed-crash"})
    small.put(tmp_path, "odd", row={"verdict": "<i>odd</i>", "crash_time": "2026-11-23T00:00:00Z"})
    target = write(tmp_path)
    page = show(target)
    expect(page.get_by_role("status")).to_have_text(f"{len(HOSTILE) + 1} dumps.")
    assert page.locator("#body script, #body img, #body i, #body a").count() == 0
    hosts = page.locator("#body td:nth-child(2)").all_text_contents()
    assert any("</script><script>alert(1)</script>" in host for host in hosts)
    show(target, java_script_enabled=False)
    source = target.read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source)
    data = source.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in data and json.loads(data)["page"] == 50


def test_a_key_that_is_no_name_is_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "results" / ".."
    (tmp_path / "results/xx").mkdir(parents=True)
    record = {"layout": 1, "source": "s", "status": "ok", "row": {"verdict": "unrelated"}}
    (folder / "results/xx/javascript:alert(1).json").write_text(json.dumps(record))
    page = write(tmp_path).read_text(encoding="utf-8")
    assert 'href="javascript' not in page and '"link":[null]' in page


def test_a_fleet_that_is_too_large_for_a_page(show: Open, tmp_path: Path) -> None:
    page = show(write(synthetic.write(tmp_path / "f", MOST + 1)))
    expect(page.get_by_text(f"This fleet has {MOST + 1:,} dumps.")).to_be_visible()
    assert set(column(page, 3)) <= {
        "unrecoverable-panic", "fatal-hardware-error", "delayed-crash", "possible-delayed-crash",
    }  # fmt: skip


def test_what_can_not_be_read_is_told(tmp_path: Path) -> None:
    small.put(tmp_path, "one", row={"verdict": "unrelated"})
    path = tmp_path / "results/aa/<b>.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{")
    page = write(tmp_path).read_text(encoding="utf-8")
    assert "Files that can&#39;t be read" in page or "Files that can't be read" in page
    assert "&lt;b&gt;.json" in page and clean(str(path)) not in page
