"""Layout of the page in headless Chromium."""

import json

import pytest

from tests.app.webui.chromium import ARRIVED, VISIBLE, browser, chromium
from tests.app.webui.served import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser() is None, reason="there is no Chromium: apt-get install chromium"),
]
pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

WRONG = VISIBLE.format(what="p.wrong") + ".map(e => e.innerText).join()"
BOX = "(() => {{ const r = {of}[0].getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }})()"

STOP_SOON = (
    "window.stopped = false; window.soon = setInterval(() => {{ const one = {of}[0];"
    " if (one) {{ one.click(); clearInterval(window.soon); window.stopped = true; }} }}, 20)"
).format(of=VISIBLE.format(what="button.stop"))
"""Presses the stop button as soon as it is seen: the request is short."""


@pytest.fixture(scope="module")
def page(fitted, tmp_path_factory):
    runs = [fitted("digits"), fitted("moons")]
    with served(runs) as client, chromium(tmp_path_factory.mktemp("browser")) as page:
        page.resize(1280, 900)
        page.open(client.url)
        page.wait(ARRIVED)
        yield page
        assert page.errors == []


def box(page, what):
    return tuple(page.run(BOX.format(of=VISIBLE.format(what=what))))


@pytest.mark.parametrize("tab", ["Sample", "Guidance", "Fill in", "Restore", "Watch", "Steer", "Compare"])
def test_button_is_visible_without_scrolling(page, tab):
    page.resize(1280, 900)
    page.press(tab, "button[role=tab]")
    page.rest(500)
    assert box(page, "button.primary")[3] <= 900


@pytest.mark.parametrize("width", [1280, 420])
def test_tools_do_not_cover_the_canvas(page, width):
    page.resize(width, 900)
    page.press("Fill in", "button[role=tab]")
    page.rest(2000)
    left, _, right, _ = box(page, ".canvas canvas")
    shown = min(400, right - left - 60)  # Gradio leaves 30 pixels at either side
    assert box(page, ".canvas .toolbar-wrap")[2] <= (left + right - shown) / 2 + 1


def test_buttons_are_in_one_row_on_a_phone(page):
    page.resize(400, 800)
    page.press("Fill in", "button[role=tab]")
    page.rest(500)
    _, top, _, bottom = box(page, ".buttons")
    assert bottom - top < 64
    assert page.run(VISIBLE.format(what=".buttons button") + ".every(e => e.scrollWidth <= e.clientWidth + 1)")


def test_tabs_are_in_one_row_on_a_phone_and_reached_by_keys(page):
    page.resize(390, 844)
    page.press("Sample", "button[role=tab]")
    page.rest(500)
    tabs = VISIBLE.format(what="button[role=tab]")
    tops = page.run(f"{tabs}.map(e => Math.round(e.getBoundingClientRect().top))")
    assert [tops.count(top) for top in sorted(set(tops))] == [2, 9]  # runs, and tabs of the first
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.run(VISIBLE.format(what=".max_value") + ".length")
    page.run(f"{tabs}[2].focus()")
    for _ in range(8):
        press(page, "Tab", 9)
    assert page.run("document.activeElement.innerText.trim()") == "Training"
    page.rest(500)
    assert page.run("document.activeElement.getBoundingClientRect().right <= window.innerWidth")
    press(page, "Enter", 13, text="\r")
    page.wait(VISIBLE.format(what="p.about") + ".some(e => e.innerText.includes('Loss curve'))")


def press(page, key, code, **more):
    for kind in ("keyDown", "keyUp"):
        found = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, **more}
        page.call("Input.dispatchKeyEvent", of_page=True, **found)


def test_errors_disappear_with_their_causes(page):
    page.resize(1280, 900)
    page.press("Fill in", "button[role=tab]")
    page.rest(2000)
    for error, fix in (
        ("add an image first", lambda: page.press("Use a sample of the model", "button.sm")),
        ("draw over the part to fill", lambda: page.draw((0.4, 0.3), (0.6, 0.7))),
    ):
        page.press("Fill in", "button.primary")
        page.wait(f"{WRONG}.includes({json.dumps(error)})")
        fix()
        page.wait(f"{WRONG} === ''")
        page.rest(3000)
    page.reload(ARRIVED)  # out of sight, Gradio would upload the image of the canvas without end


def test_stop_and_start_again(bridged, reported, tmp_path):
    said = VISIBLE.format(what=".made p") + ".map(e => e.innerText).join()"
    stop = VISIBLE.format(what="button.stop") + ".map(e => e.innerText).join()"
    with served([reported(bridged, "bridge")]) as client, chromium(tmp_path) as page:
        page.open(client.url)
        for _ in range(2):
            page.run(STOP_SOON)
            page.press("Transport", "button.primary")
            page.wait(f"window.stopped && {stop} === '' && {said} === 'stopped'")
            page.rest(2000)  # a press before the request is cancelled does nothing
        page.press("Transport", "button.primary")
        page.wait(f"{said}.includes('Input: ')")
        page.press("Transport", "button.primary")
        page.wait(f"{stop} === 'Stop'")
        assert page.errors == []
        page.open(client.url)  # a reload
        page.rest(2000)
        page.errors.clear()  # of the stream that ended as the page was left
        page.press("Transport", "button.primary")
        page.wait(f"{said}.includes('Input: ')")
        assert page.errors == []


def test_result_is_visible_on_a_phone(page):
    page.resize(400, 800)
    page.press("Sample", "button[role=tab]")
    page.run("scrollTo(0, 0)")
    page.press("Draw", "button.primary")
    page.wait(VISIBLE.format(what=".made img") + ".some(e => e.naturalWidth > 8)")
    page.rest(1500)
    _, top, _, bottom = box(page, ".made img")
    assert 0 <= top < bottom <= 800


def test_page_is_centred(page):
    page.resize(1300, 900)
    page.rest(500)
    left, _, right, _ = box(page, ".gradio-container")
    assert abs(left - (page.run("document.documentElement.clientWidth") - right)) <= 1
    assert right - left > 1100
