"""The page in headless Chromium: what is shown, a console without errors, and no request that leaves this machine."""

import pathlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from PIL import Image
from tests.studio.chromium import Chromium, browser, chromium
from tests.studio.served import Client, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser() is None, reason="there is no Chromium: apt-get install chromium"),
]
pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

SHOWN = "[...document.querySelectorAll('{what}')].some(e => e.offsetParent !== null && {more})"
PICTURE = SHOWN.format(what="img", more="e.naturalWidth > 8")
CELLS = "document.body.innerText.includes('samples.csv')"
TEXT = SHOWN.format(what="textarea", more="e.disabled && e.value.length > 8")


@pytest.fixture(scope="module")
def client(fitted: Callable[[str], pathlib.Path]) -> Iterator[Client]:
    with served([fitted(name) for name in ("digits", "moons", "people", "book")]) as client:
        yield client


@pytest.fixture
def page(client: Client, tmp_path: pathlib.Path) -> Iterator[Chromium]:
    """Open the page; at its end nothing has gone wrong, and nothing was asked of others."""
    with chromium(tmp_path / "profile") as page:
        page.open(client.url)
        page.wait("document.querySelectorAll('button[role=tab]').length > 4")
        yield page
        assert page.errors == []
        elsewhere = [url for url in page.asked if urlsplit(url).hostname not in ("127.0.0.1", None)]
        assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []


@pytest.mark.parametrize(
    ("run", "tab", "button", "shows"),
    [
        ("digits", "Sample", "Draw", PICTURE),
        ("digits", "Watch", "Watch", PICTURE),
        ("moons", "Sample", "Draw", PICTURE),
        ("people", "Sample", "Draw", CELLS),
        ("people", "Fill in", "Fill in", CELLS),
        ("book", "Sample", "Draw", TEXT),
    ],
)
def test_a_button_makes_something_that_is_seen(
    page: Chromium, tmp_path: pathlib.Path, run: str, tab: str, button: str, shows: str
) -> None:
    page.press(run, "button[role=tab]")
    page.press(tab, "button[role=tab]")
    page.press(button, "button.primary")
    page.wait(shows)
    page.picture(tmp_path / "page.png")
    assert len(set(Image.open(tmp_path / "page.png").convert("L").getdata())) > 16  # not blank


def test_a_sample_is_drawn_on(page: Chromium, tmp_path: pathlib.Path) -> None:
    page.press("Fill in", "button[role=tab]")
    page.press("Begin with a sample of the model", "button:not([role=tab])")
    page.wait(SHOWN.format(what="canvas", more="e.width > 100"))
    page.press("Fill in", "button.primary")
    page.wait("[...document.querySelectorAll('p.wrong')].some(e => e.innerText.includes('draw over'))")
