"""The page of a run as a browser shows it: on a desk, on a phone, in the dark, with nothing but itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.page.make import make_page
from pipelines.page.render import render
from tests.fixtures.runs import MainRun
from tests.pipelines.pages import ended

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
ARGUMENTS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
CONTRAST = """
(selectors) => {
  const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((c) => c / 255)
      .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.endsWith(' 0)')) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return selectors.map((selector) => {
    const node = document.querySelector(selector), style = getComputedStyle(node);
    const ink = node.ownerSVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(node))].sort((x, y) => y - x);
    return [selector, (a + .05) / (b + .05)];
  });
}
"""


class Visit:
    """One page in one browser window, and what came of it."""

    def __init__(self, browser: Any, file: Path, viewport: dict[str, int], scheme: str) -> None:
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(file.as_uri())
        self.tab.wait_for_load_state("load")

    def value(self, expression: str, argument: Any = None) -> Any:
        """Of a script that the test brings along: the page's own may not run, and there is none."""
        return self.tab.evaluate(expression, argument)

    @property
    def fetched(self) -> list[str]:
        """What came from anywhere but the file."""
        return [address for address in self.asked[1:] if not address.startswith("data:")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium here: apt-get install --no-install-recommends chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(main_run: MainRun) -> Path:
    """As the run of the main job has left it."""
    return main_run.copy / "_runs" / main_run.report.run_id / "report.html"


@pytest.fixture(scope="module")
def desk(browser: Any, page: Path) -> Visit:
    return Visit(browser, page, DESK, "light")


def test_the_run_says_where_its_page_is(main_run: MainRun, page: Path) -> None:
    assert main_run.report.page == f"{main_run.report.output}/_runs/{main_run.report.run_id}/report.html"
    assert 100_000 < page.stat().st_size < 1_500_000


def test_it_is_one_file_and_says_nothing_wrong(desk: Visit) -> None:
    assert desk.said == [] and desk.fetched == []
    assert desk.value("document.querySelectorAll('script, iframe, object, embed').length") == 0
    headings = desk.value("[...document.querySelectorAll('h1, h2')].map((node) => node.tagName)")
    assert headings[0] == "H1" and headings.count("H1") == 1 and headings.count("H2") >= 8
    lost = """[...document.querySelectorAll('nav a')].filter((a) => !document.querySelector(a.hash)).length"""
    assert desk.value(lost) == 0


def test_twelve_parts_are_seen_and_heard(desk: Visit) -> None:
    assert desk.value("document.querySelectorAll('.piece').length") == 12
    pictures = desk.value("[...document.images].map((image) => [image.naturalWidth, image.alt])")
    assert len(pictures) >= 6 and all(width > 50 and alt for width, alt in pictures)
    assert desk.value("document.querySelectorAll('.piece .sight path').length") >= 2
    assert desk.value("document.querySelectorAll('.piece .answers dd').length") > 24


def test_its_charts_are_drawn_and_named_and_their_names_do_not_clash(desk: Visit) -> None:
    charts = desk.value(
        "[...document.querySelectorAll('figure div')].map((node) => [node.getAttribute('role'), "
        "node.getAttribute('aria-label'), node.querySelector('svg').getBoundingClientRect().height])"
    )
    assert len(charts) >= 15
    assert all(role == "img" and len(label) > 20 and height > 100 for role, label, height in charts)
    ids = desk.value("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


def test_the_law_adds_up_on_the_page(desk: Visit, main_run: MainRun) -> None:
    listed, *others = (
        int(text.replace(",", ""))
        for text in desk.value("[...document.querySelectorAll('.law dd')].map((node) => node.innerText)")
    )
    assert listed == sum(others) == main_run.report.counts.listed


def test_the_dark_is_dark_and_all_of_it_can_be_read(browser: Any, page: Path, desk: Visit) -> None:
    dark = Visit(browser, page, DESK, "dark")
    looks = "getComputedStyle(document.body).backgroundColor"
    assert desk.value(looks) != dark.value(looks)
    texts = ["h1", ".lead", ".law dt", ".tiles small", "td", "th", ".answers dd", "nav a", "figure svg text"]
    for visit in (desk, dark):
        low = [found for found in visit.value(CONTRAST, texts) if found[1] < 4.5]
        assert low == []
    label = "getComputedStyle(document.querySelector('figure svg text')).fill"
    assert desk.value(label) != dark.value(label), "charts follow the page"


def test_a_phone_need_not_be_turned(browser: Any, page: Path) -> None:
    phone = Visit(browser, page, PHONE, "light")
    assert phone.value("document.documentElement.scrollWidth") <= 360
    wide = """[...document.querySelectorAll('main *')].filter((node) => !node.closest('.scroll, .job, svg')
        && node.getBoundingClientRect().right > innerWidth + 1).map((node) => node.outerHTML.slice(0, 80))"""
    assert phone.value(wide) == []
    sizes = phone.value(
        "[...document.querySelectorAll('figure svg')]"
        ".map((node) => 11 * node.getBoundingClientRect().width / node.viewBox.baseVal.width)"
    )
    assert min(sizes) > 9, "letters of the charts, in pixels"


def test_what_a_document_wants_to_do_to_it_is_not_done(browser: Any, tmp_path: Path) -> None:
    run = ended(tmp_path)
    file = tmp_path / "page.html"
    file.write_bytes(render(make_page(run.plan, run.report)))
    visit = Visit(browser, file, PHONE, "light")
    assert "owned" not in visit.tab.title() and visit.said == [] and visit.fetched == []
    assert visit.value("document.images.length") == 1
    assert visit.value("document.documentElement.scrollWidth") <= 360
    assert "document.title='owned'" in visit.value("document.querySelector('.answers').innerText")
