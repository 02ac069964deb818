"""The report in headless Chromium, which Debian's package chromium-headless-shell or chromium brings."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_runs import SECONDS, make_report_run

from separation.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium-headless-shell")
CHART_BUTTONS = {"Download plot", "Zoom in", "Zoom out", "Reset axes"}
HOSTILE = "<b><img src=x onerror=hacked=1>"
FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("report")
    make_report_run(root / "runs" / HOSTILE)
    make_report_run(root / "runs/other", "clip.p=25", gain=1.0)
    write_report([root / "runs"], root / "report.html")
    return root / "report.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser, report) -> Iterator:
    """Opens the report; in the end nothing may have gone wrong in it, or been loaded by it."""
    problems, pages = [], []

    def open_(width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        pages.append(page)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        address = report.as_uri()
        inside = (address, "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(inside) or problems.append(request.url))
        page.goto(address)
        page.evaluate("document.getElementById('curves').scrollIntoView()")
        page.wait_for_selector(".chart .main-svg")
        return page

    yield open_
    for page in pages:
        page.close()
    assert problems == []


def until(page, condition: str) -> None:
    page.wait_for_function(f"() => {condition}")  # a function: the page forbids to evaluate texts


def playing(page) -> list[int]:
    """Which of the players can be heard."""
    return page.evaluate("[...document.querySelectorAll('audio')].flatMap((audio, i) => audio.paused ? [] : [i])")


def position(page, player: int) -> float:
    return page.evaluate(f"document.querySelectorAll('audio')[{player}].currentTime")


def test_audio_plays_and_a_switch_keeps_the_position(open_page):
    page = open_page()
    buttons = page.locator("button.play")
    buttons.nth(0).click()
    until(page, "document.querySelectorAll('audio')[0].currentTime > 0.6")
    buttons.nth(3).click()
    until(page, "document.querySelectorAll('audio')[3].currentTime > 0")
    left, entered = position(page, 0), position(page, 3)
    assert left >= 0.6 and left - 0.05 < entered < SECONDS
    assert playing(page) == [3]
    assert [buttons.nth(i).get_attribute("aria-pressed") for i in (0, 3)] == ["false", "true"]
    assert [[path.is_visible() for path in buttons.nth(i).locator("path").all()] for i in (0, 3)] == [
        *([True, False], [False, True])  # play, pause
    ]
    buttons.nth(3).click()
    until(page, "document.querySelectorAll('audio')[3].paused")
    slider = page.locator("input[type=range]").nth(0)
    assert playing(page) == [] and float(slider.input_value()) == pytest.approx(position(page, 3), abs=0.06)
    # The slider moves the position for whichever is played next; another mixture has its own.
    slider.fill("1.5")
    buttons.nth(1).click()
    until(page, "document.querySelectorAll('audio')[1].currentTime >= 1.5")
    assert slider.get_attribute("aria-valuetext").endswith("of 6.0 s")
    page.locator("details.example > summary").nth(1).click()
    buttons.nth(7).click()  # seven signals a mixture
    until(page, "document.querySelectorAll('audio')[7].currentTime > 0")
    assert playing(page) == [7] and position(page, 7) < 1.5


def test_the_keyboard_alone_reaches_and_plays_everything(open_page):
    page = open_page()
    seen = []
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        seen.append(page.evaluate(FOCUSED))
        if page.evaluate("document.activeElement.matches('details:not([open]) > summary')"):
            page.keyboard.press("Enter")
        if seen[-1] == f"Play voice 2 of {HOSTILE}" and not playing(page):
            page.keyboard.press("Enter")
            until(page, "[...document.querySelectorAll('audio')].some((audio) => audio.currentTime > 0)")
            assert playing(page) == [6]
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert sum(text.startswith("Play ") for text in seen) == 3 * 7
    assert seen.count("Position in seconds") == 3 and seen.count(f"{HOSTILE}: draw its curves") == 1
    # Five charts with four buttons each; none sends anything away.
    assert {*seen[seen.index("none") + 1 : seen.index("Speakers of test, a table")]} == CHART_BUTTONS
    labels = page.locator("button, input, [role=group], [role=region], nav").evaluate_all(
        "all => all.map((each) => each.getAttribute('aria-label') ?? each.textContent.trim())"
    )
    assert all(labels)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_width_and_scheme(open_page, width, scheme):
    page = open_page(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('.chart .xtick text')).fill")
    assert (paper, ink) == {
        "light": ("rgb(255, 255, 255)", "rgb(27, 29, 34)"),
        "dark": ("rgb(22, 24, 29)", "rgb(232, 234, 238)"),
    }[scheme]
    # Printing draws what nobody has scrolled to, and paper is light.
    drawn = "[...document.querySelectorAll('.chart')].map((chart) => chart.querySelector('.main-svg') !== null)"
    assert page.evaluate(drawn)[-1] is (width == 1280)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    until(page, f"{drawn}.every((each) => each)")
    page.emulate_media(media="print")
    until(page, "getComputedStyle(document.querySelector('.chart .xtick text')).fill === 'rgb(27, 29, 34)'")


def test_a_changed_scheme_redraws_and_a_tick_takes_a_runs_curves_away(open_page):
    page = open_page()
    color = "document.querySelector('.chart .scatterlayer .trace:nth-child(3) path.js-line').style.stroke"
    assert page.evaluate(color) == "rgb(0, 114, 178)"  # #0072b2: the first run's mean
    page.emulate_media(color_scheme="dark")
    until(page, f"{color} === 'rgb(86, 180, 233)'")
    count = "document.querySelectorAll('.chart')[0].querySelectorAll('.scatterlayer .trace').length"
    assert page.evaluate(count) == 4
    page.locator("input[type=checkbox]").nth(1).uncheck()
    until(page, f"{count} === 2")
    page.locator("button[data-draw=none]").click()
    until(page, f"{count} === 0")


def test_names_run_no_code_in_tables_and_charts(open_page):
    page = open_page()
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.locator(".legend label").all_inner_texts() == ["other", HOSTILE]
    chart = page.locator(".chart").nth(2)
    chart.scroll_into_view_if_needed()
    point = chart.locator(".scatterlayer .trace").nth(1).locator(".points path").first.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    until(page, "document.querySelector('.hoverlayer text') !== null")
    assert HOSTILE in "".join(chart.locator(".hoverlayer text").all_text_contents())
    assert page.evaluate("typeof hacked") == "undefined"
    assert HOSTILE in page.locator("main").inner_text()
