"""The page in headless Chromium: results are visible, without errors or requests to other hosts."""

import json
import shutil
from urllib.parse import urlsplit

import pytest
from PIL import Image

from feller.core.run_folder import Run
from feller.evaluation.report.report_page import RunReport, write_report
from tests.app.webui.chromium import ARRIVED, VISIBLE, browser, chromium
from tests.app.webui.served import served
from tests.data.speech.clip import CLIPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser() is None, reason="there is no Chromium: apt-get install chromium"),
]
pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

SEEN = VISIBLE + ".some(e => {more})"
PICTURE = SEEN.format(what=".made img", more="e.complete && e.naturalWidth > 8")
CELLS = SEEN.format(what=".made [role=gridcell], .made td", more="e.innerText.trim().length > 0")
TEXT = SEEN.format(what=".made textarea", more="e.value.length > 8")
SOUND = SEEN.format(what=".made [data-testid^=waveform]", more="e.clientHeight > 8")
FILLED = SEEN.format(what=".made textarea", more="/^To be... not/s.test(e.value)")
CANVAS = SEEN.format(what="canvas", more="e.width > 100")
CLIP, SAYS = CLIPS / "LJ001-0008.flac", "has never been surpassed"
RUNS = ("digits", "moons", "people", "book")
NARROW = 420
REPORT = "<p style='height: 3000px'>what was found of the bridge<script>parent.document.title = 'taken'</script>"


@pytest.fixture(scope="module")
def running(fitted, tmp_path_factory):
    """Return a run whose fit continues while the page is open."""
    run = tmp_path_factory.mktemp("fits") / "running"
    shutil.copytree(fitted("moons"), run, ignore=shutil.ignore_patterns("metrics.jsonl", "state.json"))
    return run


@pytest.fixture(scope="module")
def client(fitted, reported, bridged, speaking, documents, running, tmp_path_factory):
    reward_file = tmp_path_factory.mktemp("rewards") / "own.py"
    reward_file.write_text("def right(values, given):\n    return values[:, 0]\n")
    named = {**{name: fitted(name) for name in RUNS}, "bridge": bridged, "speech": speaking, "documents": documents}
    runs = {name: reported(run, name) for name, run in named.items()}
    (runs["bridge"] / "report.html").write_text(REPORT)
    with served([*runs.values(), running], "--reward", f"{reward_file}:right") as client:
        yield client


@pytest.fixture(scope="module")
def opened(client, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        page.resize(1300, 1500)
        page.open(client.url)
        page.wait(ARRIVED)
        yield page


@pytest.fixture
def page(opened, tmp_path):
    """Yield the open page; a test may not cause errors or requests to other hosts."""
    if opened.run("document.querySelector('canvas') !== null"):  # out of sight, Gradio uploads its image without end
        opened.reload(ARRIVED)
    yield opened
    opened.picture(tmp_path / "page.png")
    assert len(set(Image.open(tmp_path / "page.png").convert("L").tobytes())) > 16  # not blank
    assert opened.errors == []
    elsewhere = [url for url in opened.requested_urls if urlsplit(url).hostname not in ("127.0.0.1", None)]
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []
    assert not opened.run(SEEN.format(what="p.wrong", more="true"))


def to(page, run, tab):
    page.press(run, "button[role=tab]")
    page.press(tab, "button[role=tab]")


SPEECH_SHOWN = SEEN.format(what="[data-testid^=waveform]", more="e.clientHeight > 8")


@pytest.mark.parametrize(
    ("run", "tab", "typed", "button", "shows"),
    [
        ("digits", "Guidance", {}, "Draw the row", PICTURE),
        ("digits", "Watch", {}, "Watch", PICTURE),
        ("digits", "Restore", {}, "Degrade and restore", PICTURE),
        ("digits", "Compare", {}, "Compare", PICTURE),
        ("moons", "Steer", {}, "Steer", PICTURE),
        ("people", "Fill in", {}, "Fill in", CELLS),
        ("book", "Watch", {}, "Watch", CELLS),
        ("book", "Fill in", {"Text": "To be___ not"}, "Continue or fill in", FILLED),
        ("bridge", "Transport", {}, "Transport", PICTURE),
        ("documents", "Draw", {}, "Draw", PICTURE),
        ("documents", "Ask about an image", {"image": ""}, "Go", PICTURE),
        ("speech", "Text to speech", {"Text": "Hello"}, "Synthesize", SOUND),
        (
            *("speech", "Edit"),
            {"recording": "", "Transcript": SAYS, "New transcript": "has always been surpassed"},
            *("Edit", SOUND),
        ),
    ],
)
def test_button_shows_a_result(page, tmp_path, run, tab, typed, button, shows):
    to(page, run, tab)
    assert not page.run(shows)
    for label, text in typed.items():
        if label == "image":
            Image.new("RGB", (16, 16), "red").save(tmp_path / "own.png")
            page.upload(tmp_path / "own.png")
            page.wait(SEEN.format(what="img", more="e.complete && e.naturalWidth == 16"))
        elif label == "recording":
            page.upload(CLIP)
        else:
            page.type(label, text)
    if "recording" in typed:
        page.wait(SPEECH_SHOWN)
    page.press(button, "button.primary")
    page.wait(shows)


@pytest.mark.parametrize(("run", "shows"), [("digits", PICTURE), ("moons", PICTURE), ("people", CELLS), ("book", TEXT)])
def test_samples_on_arrival_are_replaced(page, run, shows):
    to(page, run, "Sample")
    arrived = SEEN.format(what=".made p.note", more="e.innerText.includes('on arrival')")
    page.wait(f"{arrived} && {shows}")
    page.press("Draw", "button.primary")
    page.wait(f"!{arrived} && {shows}")
    to(page, "bridge", "Transport")
    to(page, run, "Sample")
    page.rest(1500)
    assert not page.run(arrived)  # what was drawn stays


def test_guidance_scales_are_in_one_row(page):
    to(page, "digits", "Guidance")
    page.press("Draw the row", "button.primary")
    images = VISIBLE.format(what=".made img") + ".filter(e => e.complete && e.naturalWidth > 8)"
    tops = f"{images}.map(e => Math.round(e.getBoundingClientRect().top))"
    page.wait(f"(tops => tops.length === 4 && new Set(tops).size === 1)({tops})")  # also while the page replaces them


def test_inpainting_of_a_sample(page):
    to(page, "digits", "Fill in")
    page.wait(CANVAS)
    page.press("Use a sample of the model", "button:not([role=tab])")
    page.rest(4000)
    page.press("Fill in", "button.primary")
    page.wait(SEEN.format(what="p.wrong", more="e.innerText.includes('draw over')"))
    page.draw((0.4, 0.3), (0.6, 0.7))
    page.press("Fill in", "button.primary")
    page.wait(PICTURE)


def test_marked_span_of_a_recording(page):
    to(page, "speech", "Denoise")
    page.wait(CANVAS)
    page.upload(CLIP)
    page.type("Transcript", SAYS)
    page.wait(SPEECH_SHOWN)
    marks(page, (0.4, 0.5), (0.6, 0.5), "Regenerate")
    page.wait(SOUND)
    said = page.run(f"{VISIBLE.format(what='.made p.note')}.map(e => e.innerText).join()")
    begin, end = (float(said.split("marked: ")[1].split(" ")[place]) for place in (0, 2))
    assert 0.4 < begin < end < 1.5  # not the span that is typed, 0.5 to 1, unless by chance
    assert (begin, end) != (0.5, 1.0)


def marks(page, begin, end, button):
    """Draw once the picture is on the canvas, and press the button."""
    page.rest(4000)
    page.draw(begin, end)
    page.press(button, "button.primary")


def test_inpainting_of_a_document(page, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "own.png")
    to(page, "documents", "Fill in")
    page.wait(CANVAS)
    page.rest(2000)
    page.upload(tmp_path / "own.png")
    page.type("Description of the image", "a circle")
    marks(page, (0.4, 0.4), (0.6, 0.6), "Fill in")
    page.wait(PICTURE)


def test_running_fit_is_followed(page, running):
    def phase(name, words=""):
        page.wait(SEEN.format(what=".state", more=f"e.dataset.phase === '{name}' && e.innerText.includes('{words}')"))

    to(page, "running", "Training")
    with Run(running).lock():
        (running / "recipe.json").write_bytes((running / "recipe.json").read_bytes())  # as a fit does first
        phase("starting")
        lines = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": step} for step in (1, 2)]
        (running / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        Image.new("RGB", (32, 32), "red").save(running / "preview.png")
        phase("training", "step 2 of 3, 66 %")
        page.wait(SEEN.format(what=".made svg", more="true") + " || document.querySelector('.made .plot') !== null")
        page.wait(PICTURE)
        page.press("Reports", "button[role=tab]")
        page.wait(SEEN.format(what=".made p.note", more="e.innerText.includes('follows after training')"))
        (running / "state.json").write_text(json.dumps({"step": 3, "seconds": 3.0}))
        phase("reporting")
        page.wait(SEEN.format(what=".made p.note", more="e.innerText.includes('being written')"))
        numbers = {"energy": 0.5, "energy_floor": 0.5, "n": 20, "steps": 3}
        write_report(running, RunReport(title="how good it is", numbers=numbers))
    phase("reported", "Good")
    assert "few samples" in page.run(f"{VISIBLE.format(what='.state .caution')}.map(e => e.innerText).join()").lower()
    page.wait(SEEN.format(what="iframe.report", more="e.srcdoc.includes('how good it is')"))
    assert [error for error in page.errors if "sandboxed" in error] == page.errors
    page.errors.clear()


def test_new_seed(page):
    seed = (
        f"Number({VISIBLE.format(what='label')}.find(e => e.innerText.startsWith('Seed')).querySelector('input').value)"
    )
    shown = (
        f"(() => {{ const one = {VISIBLE.format(what='.made img')}[0], c = document.createElement('canvas');"
        " [c.width, c.height] = [one.naturalWidth, one.naturalHeight];"
        " c.getContext('2d').drawImage(one, 0, 0); return c.toDataURL(); })()"
    )
    source = f"{VISIBLE.format(what='.made img')}[0].src"
    to(page, "digits", "Sample")
    page.wait(PICTURE)
    made, seeds = [], []
    for press in ("New seed", "New seed", "Draw"):
        before = page.run(source) if page.run(PICTURE) else ""
        if press == "Draw":
            page.type("Seed", str(seeds[0]))
        page.press(press, "button:not([role=tab])")
        page.wait(f"{PICTURE} && {source} !== {json.dumps(before)} && {VISIBLE.format(what='.made img')}[0].complete")
        made.append(page.run(shown))
        seeds.append(page.run(seed))
    assert seeds[0] != seeds[1]
    assert seeds[0] == seeds[2]
    assert made[0] != made[1]
    assert made[0] == made[2]


def test_report_is_shown_and_sandboxed(page):
    to(page, "bridge", "Reports")
    page.wait(SEEN.format(what="iframe.report", more=f"e.srcdoc.includes({json.dumps(REPORT)})"))
    page.wait(SEEN.format(what="iframe.report", more="e.clientHeight > 3000"))  # nothing scrolls inside of it
    assert page.run("document.title") == "feller"
    assert [error for error in page.errors if "sandboxed" in error] == page.errors  # no script of a report runs
    page.errors.clear()


def test_compared_tables_are_side_by_side(page):
    to(page, "people", "Compare")
    page.press("Compare", "button.primary")
    page.wait(CELLS)
    tables = f"{VISIBLE.format(what='.made .table-wrap')}.map(e => e.getBoundingClientRect()).map(r => [r.left, r.top])"
    page.wait(f"{tables}.length === 2")
    page.rest(500)
    boxes = page.run(tables)
    assert len(boxes) == 2
    assert boxes[0][0] < boxes[1][0]
    assert boxes[0][1] == boxes[1][1]


def test_tables_break_no_words(page):
    to(page, "moons", "Steer")
    page.press("Steer", "button.primary")
    page.wait(CELLS)
    page.rest(500)
    cells = VISIBLE.format(what=".made td")
    words = f"{cells}.filter(e => /^\\S+$/.test(e.innerText.trim()))"
    assert "better than before" in page.run(f"{cells}.map(e => e.innerText.trim())")
    lines = page.run(
        f"{words}.map(e => {{ const walk = document.createTreeWalker(e, NodeFilter.SHOW_TEXT); const found = [];"
        " while (walk.nextNode()) { const r = document.createRange(); r.selectNodeContents(walk.currentNode);"
        " if (walk.currentNode.data.trim()) found.push(r.getClientRects().length); } return Math.max(...found); })"
    )
    assert lines
    assert set(lines) == {1}


def test_small_image_is_enlarged_without_blur(page, tmp_path):
    small = tmp_path / "small.png"
    Image.new("RGB", (32, 32), "red").save(small)
    to(page, "digits", "Restore")
    one = VISIBLE.format(what="[data-testid=image] img, .image-frame img") + ".find(e => e.naturalWidth == {size})"
    how = "(() => {{ const e = {one}; return [getComputedStyle(e).imageRendering, e.clientWidth]; }})()"
    page.upload(small)
    page.wait(f"!!({one.format(size=32)})")
    page.rest(300)
    rendering, width = page.run(how.format(one=one.format(size=32)))
    assert rendering == "pixelated"
    assert width > 120


def test_server_that_is_gone_or_restarted(fitted, tmp_path):
    said = "document.getElementById('gone')?.innerText ?? ''"
    with chromium(tmp_path) as page:
        with served([fitted("moons")]) as first:
            page.open(first.url)
            page.wait("document.querySelectorAll('button[role=tab]').length > 2")
            page.rest(5000)
            assert page.run(said) == ""
        page.wait(f"({said}).includes('does not respond')")
        assert not page.run(SEEN.format(what=".toast-body", more="true"))  # said once, by us
        top, bar = page.run(
            "['.top h1', '#gone'].map(one => document.querySelector(one).getBoundingClientRect())"
            ".map(r => [r.top, r.bottom])"
        )
        assert bar[1] <= top[0]  # covers nothing
        with served([fitted("moons")], port=urlsplit(first.url).port or 0):
            page.wait(f"({said}).includes('restarted')")
            if "reload this page" in page.run(said):
                page.run("window.location.reload()")  # as Gradio does where it has seen that its server was gone
            page.wait(f"({said}).includes('restarted; inputs and results are lost')")
            page.wait("document.querySelectorAll('button[role=tab]').length > 2")
            page.rest(5000)
            assert "inputs and results are lost" in page.run(said)
            page.run("document.querySelector('#gone button').click()")
            page.rest(5000)
            assert page.run(said) == ""


def test_broken_image_keeps_the_result(page, tmp_path):
    broken, told = tmp_path / "broken.png", "broken.png: not a readable image"
    broken.write_bytes(b"no picture")
    refused = SEEN.format(what="p.wrong", more=f"e.innerText.includes({json.dumps(told)})")
    to(page, "digits", "Restore")
    page.press("Degrade and restore", "button.primary")
    page.wait(PICTURE)
    page.upload(broken)
    page.rest(2000)
    page.press("Degrade and restore", "button.primary")
    page.wait(refused)
    assert page.run(PICTURE)
    to(page, "documents", "Ask about an image")
    page.upload(broken)
    page.rest(2000)
    page.press("Go", "button.primary")
    page.wait(refused)
    to(page, "digits", "Fill in")
    page.wait(CANVAS)
    page.rest(2000)
    page.upload(broken)
    page.wait(refused)
    to(page, "moons", "Sample")
    page.errors.clear()  # of the pictures that the browser itself could not show


def test_emptied_number_is_restored(page):
    to(page, "moons", "Sample")
    calls = VISIBLE.format(what="input[type=number]") + ".find(e => e.ariaLabel?.includes('Network evaluations'))"
    before = page.run(f"{calls}.value")
    assert before != "2"  # the least, which Gradio would take
    page.run(
        f"(() => {{ const one = {calls}; one.focus();"
        " Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(one, '');"
        " one.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    page.rest(300)
    assert page.run(f"{calls}.value") == ""
    page.run(f"{calls}.blur()")
    page.rest(500)
    assert page.run(f"{calls}.value") == before


def test_number_beyond_its_slider(page):
    to(page, "moons", "Sample")
    many = VISIBLE.format(what="input[type=number]") + ".find(e => e.ariaLabel?.includes('Number of samples'))"
    said = VISIBLE.format(what="p.taken") + ".map(e => e.innerText).join()"
    before = page.run(f"{many}.value")
    for typed, told in (("1000000000", "changed to 5000"), (before, "")):
        page.run(f"{many}.focus(); {many}.select()")
        page.call("Input.insertText", of_page=True, text=typed)
        page.run(f"{many}.blur()")
        page.rest(500)
        assert told in page.run(said)
        assert bool(told) == bool(page.run(said))


def test_target_ink(page):
    to(page, "digits", "Steer")
    ink = SEEN.format(what="input[type=number]", more="e.ariaLabel?.includes('Ink')")
    assert not page.run(ink)  # the first wish is that of the command line
    for wish, seen in (("target ink, set below", True), ("compressibility", False)):
        chosen = VISIBLE.format(what="input[role=combobox]") + ".find(e => e.ariaLabel === 'Reward')"
        page.run(f"{chosen}.focus()")
        page.wait(SEEN.format(what="[role=option]", more=f"e.innerText.trim().endsWith({json.dumps(wish)})"))
        options = VISIBLE.format(what="[role=option]") + f".find(e => e.innerText.trim().endsWith({json.dumps(wish)}))"
        page.run(f"{options}.dispatchEvent(new MouseEvent('mousedown', {{bubbles: true}}))")
        page.wait(ink if seen else f"!{ink}")


def test_tables_fit_any_width(page):
    to(page, "moons", "Steer")
    page.press("Steer", "button.primary")
    page.wait(SEEN.format(what="table.numbers", more="true"))
    for width in (NARROW, 1300):
        page.resize(width, 1500)
        page.rest(500)
        cut = VISIBLE.format(what=".made *") + ".filter(e => e.querySelector('table.numbers'))"
        assert page.run(f"{cut}.every(e => e.scrollWidth <= e.clientWidth + 1)")


@pytest.mark.parametrize(("theme", "width"), [("light", 1300), ("dark", NARROW)])
def test_contrast_of_themes_and_widths(opened, client, theme, width):
    opened.resize(width, 900)
    opened.open(f"{client.url}?__theme={theme}")
    opened.wait(ARRIVED)
    opened.wait(f"document.body.classList.contains('dark') === {json.dumps(theme == 'dark')}")
    assert opened.run("document.documentElement.scrollWidth <= window.innerWidth + 1")  # nothing is cut off
    lightness = (
        "(() => {{ const c = getComputedStyle(document.querySelector('{what}')).{which}.match(/[0-9.]+/g).map(Number);"
        " return (0.3 * c[0] + 0.6 * c[1] + 0.1 * c[2]) / 255; }})()"
    )
    ink = opened.run(lightness.format(what="p.about", which="color"))
    ground = opened.run(lightness.format(what="gradio-app", which="backgroundColor"))
    assert abs(ink - ground) > 0.4
    assert (ink > ground) == (theme == "dark")
