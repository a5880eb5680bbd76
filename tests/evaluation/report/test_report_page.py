"""The report page, its JSON record, and formatted numbers."""

import base64
import dataclasses
import io
import json
import os
import pathlib
import re
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError
from feller.evaluation import number_format as wording
from feller.evaluation.metrics import METRICS, main_metrics
from feller.evaluation.report.embedded_picture import make_animation
from feller.evaluation.report.report_page import (
    ReportTable,
    RunReport,
    page,
    prose,
    record,
    replace_illegible,
    write_report,
)
from feller.evaluation.report.verdict import Verdict
from tests.errors import refuses
from tests.evaluation.report.reader import Node, read

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
NAN = float("nan")
PICTURE = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
FULL = RunReport(
    title="digits",
    command="feller fit example:digits",
    made="2025-11-25T13:26:00+00:00",
    numbers={
        "accuracy": 0.974,
        "judge_accuracy": 0.989,
        "judge": "1,437 pictures of digits",
        "fd_cnn": 1.9034,
        "fd_cnn_floor": 1.2021,
        "nearest_ratio": 1.02,
        "steps": 400,
        "seconds": 93.2,
    },
    notes=("no value is above 16, which was taken as white",),
    settings={"train": {"lr": 2e-3, "steps": None, "betas": (0.9, 0.99)}, "seed": 0},
    curve=[{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": float(step)} for step in range(1, 401)],
    pictures=[("Samples", PICTURE), ("Real digits", PICTURE)],
    next_steps=[("feller sample runs/digits-1 -n 1000", "Draw 1,000 samples.")],
    versions={"feller": "0.1.0"},
)


def changed(**fields: object) -> Node:
    return read(page(dataclasses.replace(FULL, **fields)))


def table(root: Node, kind: str) -> dict[str, str]:
    (found,) = root.of(kind)
    return {row.all("th")[0].text: row.all("td")[0].text for row in found.all("tr") if row.all("td")}


def test_structure_of_the_page() -> None:
    root = changed()
    assert root.all("html")[0].attributes["lang"] == "en"
    assert [len(root.all(tag)) for tag in ("html", "head", "body", "title", "main", "h1")] == [1] * 6
    assert root.of("grade")[0].text == "Good"
    assert [one.text for one in root.of("verdict")[0].all("dt")] == ["class accuracy", "FD-cnn"]
    assert len(root.all("h2")) == 6
    captions = [figure.all("figcaption")[0].text for figure in root.of("pictures")[0].all("figure")]
    assert captions == ["Samples", "Real digits"]
    assert all(image.attributes["alt"] for image in root.all("img"))
    assert all("open" not in fold.attributes for fold in root.all("details"))
    assert root.of("command")[1].text == "feller sample runs/digits-1 -n 1000"
    assert len(root.of("plot")) == 2


def test_metric_rows() -> None:
    rows = changed().of("metrics")[0].all("tbody")[0].all("tr")
    assert [row.all("th")[0].attributes["title"] for row in rows] == main_metrics(FULL.numbers)
    assert [row.of("better")[0].text for row in rows] == ["↑ higher", "↓ lower", "= reference"]
    assert [row.all("td")[1].text for row in rows][1:] == ["1.20real vs real", "1.00held-out data"]
    assert [bar.attributes["style"] for bar in rows[1].all("i")] == ["width:100.0%", "width:63.2%"]
    assert [bar.attributes["style"] for bar in rows[0].all("i")] == ["width:97.4%", "width:98.9%"]
    assert not changed(numbers={"fd_cnn": 1.9, "fd_cnn_floor": None}).of("bars")[0].all("i")
    assert not changed(numbers={"nll": -3.0, "nll_baseline": 2.0}).of("bars")[0].all("i")


def test_page_loads_and_runs_nothing() -> None:
    root = changed(notes=("see https://example.org",), title="http://example.org")
    for node in root.all(""):
        assert node.tag not in ("script", "iframe", "object", "embed", "form", "base", "a", "video", "audio")
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            inside = (value or "").startswith(("data:", "#"))
            assert name not in ("src", "href", "srcset", "xlink:href", "action") or inside
    style = root.all("style")[0].text
    assert not re.search(r"@import|url\(", style)
    policy = [meta.attributes for meta in root.all("meta") if "http-equiv" in meta.attributes]
    assert (policy[0]["content"] or "").startswith("default-src 'none'")


def test_escaping() -> None:
    root = changed(
        title=EVIL,
        command=EVIL,
        made=EVIL,
        unfinished=EVIL,
        sketch=EVIL,
        compared=EVIL,
        guarantee=EVIL,
        expenses=(EVIL,),
        caveat=EVIL,
        verdict=Verdict(EVIL, (), (EVIL,)),
        numbers={**FULL.numbers, EVIL: 1.0, "judge": EVIL, "gone": None},
        missing={"gone": EVIL},
        notes=(EVIL,),
        settings={EVIL: {EVIL: EVIL, "list": [EVIL]}},
        pictures=[(EVIL, PICTURE), (EVIL, PICTURE)],
        heading=EVIL,
        sounds=[(EVIL, b"")],
        grids=[ReportTable(EVIL, EVIL, (EVIL, "b"), [(EVIL, EVIL)])],
        next_steps=[(EVIL, EVIL)],
        versions={EVIL: EVIL},
    )
    assert not root.all("script")
    assert len(root.all("img")) == 2
    assert root.all("h1")[0].text == root.of("grade")[0].text == EVIL
    assert root.of("command")[0].text == root.of("command")[1].text == EVIL
    (settings, versions) = root.of("pairs")
    assert settings.all("td")[0].text == versions.all("td")[0].text == EVIL
    assert root.all("figcaption")[0].text == EVIL
    assert root.all("img")[0].attributes["alt"] == f"Figure: {EVIL}"


def test_illegible_characters() -> None:
    assert replace_illegible("a\x00\u202e\ud800b\n") == "a\ufffd\ufffd\ufffdb\n"
    assert "\ufffd" in changed(title="a\u202eb").all("h1")[0].text
    assert prose("a < b, see --train.steps.") == 'a &lt; b, see <span class="flag">--train.steps</span>.'


def test_json_record(tmp_path: pathlib.Path) -> None:
    numbers = {**FULL.numbers, "energy": NAN, "nll": None, "sliced_w": float("inf")}
    write_report(tmp_path / "run", dataclasses.replace(FULL, numbers=numbers))
    assert sorted(os.listdir(tmp_path / "run")) == ["report.html", "report.json"]
    text = (tmp_path / "run" / "report.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["numbers"] == {**FULL.numbers, "energy": None, "nll": None, "sliced_w": None}
    assert data["notes"] == list(FULL.notes)
    assert data["settings"] == {"train": {"lr": 2e-3, "steps": None, "betas": [0.9, 0.99]}, "seed": 0}
    assert data["next_steps"] == [list(FULL.next_steps[0])]
    assert METRICS["fd_cnn"].help in data["explanations"]["fd_cnn"]
    names = {"verdict", "title", "command", "made", "unfinished", "sketch", "judged", "promise", "spent", "beware"}
    assert names < data.keys()
    assert not {"pictures", "curve"} & set(data)
    root = read((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert set(numbers) == set(table(root, "meanings"))


def test_missing_numbers() -> None:
    numbers = {"sliced_w": 0.03, "sliced_w_floor": None, "energy": NAN, "accuracy": None, "mine": None}
    root = changed(numbers=numbers, missing={"mine": "The disk was full."})
    whys = [why.text for why in root.of("why")]
    assert len(whys) == 4
    assert (METRICS["accuracy"].missing in whys[2], len(whys[3]) > 0) == (True, True)
    shown = table(root, "meanings")
    assert shown["energy"] == shown["mine"] == "–"


def test_empty_report() -> None:
    root = read(page(RunReport(title="nothing")))
    assert root.of("grade")[0].text == "Not measured"
    assert not root.of("metrics")
    assert not root.of("pictures")
    assert all(part.text.strip() for tag in ("p", "dd", "td", "h2", "li") for part in root.all(tag))


def test_optional_parts(tmp_path: pathlib.Path) -> None:
    assert not changed(pictures=[("Samples", Image.new("L", (10, 0)))]).of("pictures")
    assert not changed(curve=FULL.curve[:1]).of("plot")
    broken = changed(curve=[*FULL.curve, {"step": 401, "loss": NAN, "lr": 1e-3}])
    assert len(broken.of("plot")) == 2
    assert not changed(curve=[{"step": float(step), "lr": 0.1} for step in range(4)], guarantee="dp").of("plot")
    assert len(changed(unfinished="Stopped at step 5.", sketch="short").of("caution")) == 2
    foreign = changed(curve=None, settings={})
    assert len(foreign.all("h2")) == len(changed().all("h2")) - 1
    assert len(foreign.all("summary")) == len(changed().all("summary")) - 1
    for title in ("first", "again"):
        write_report(tmp_path, dataclasses.replace(FULL, title=title), "report-new")
    assert sorted(os.listdir(tmp_path)) == ["report-new.html", "report-new.json"]
    assert json.loads((tmp_path / "report-new.json").read_text())["title"] == "again"


def test_grades_of_sketches_and_given_verdicts() -> None:
    assert changed(sketch="After 2 steps").of("grade")[0].text == "Undertrained"
    root = changed(verdict=Verdict("Guarantee holds", ("accuracy",)))
    assert root.of("grade")[0].text == "Guarantee holds"
    assert len(root.of("verdict")[0].all("dt")) == 1
    found = dataclasses.replace(FULL, verdict=Verdict("Guarantee holds", ("accuracy",), ("seeded",)))
    assert record(found)["verdict"].startswith("Guarantee holds: class accuracy")
    assert record(found)["cautions"] == ["seeded"]


def test_settings() -> None:
    settings = {
        "data": {"columns": tuple(f"c{i}" for i in range(5000)), "empty": {}},
        "many": {str(i): i for i in range(600)},
    }
    shown, _ = changed(settings=settings).of("pairs")
    rows = {row.all("th")[0].text: row.all("td")[0].text for row in shown.all("tr")}
    assert len(rows) == 501
    assert len(rows["data.columns"]) < 200
    assert rows["data.empty"] == "not set"


def test_wide_pictures() -> None:
    wide = changed(pictures=[("a", Image.new("L", (1260, 400)))] * 2)
    assert wide.of("pictures")[0].attributes["class"] == "pictures wide"
    assert changed().of("pictures")[0].attributes["class"] == "pictures"


def test_tables() -> None:
    grid = ReportTable("Quantiles", "Of the numbers.", ("column", "mean"), [("age", 40.5), ("income", None)])
    assert record(dataclasses.replace(FULL, grids=[grid]))["tables"] == {
        "Quantiles": [{"column": "age", "mean": 40.5}, {"column": "income", "mean": None}]
    }
    (shown,) = changed(grids=[grid]).of("grid")
    assert [cell.text for cell in shown.all("td")] == ["40.5", "–"]


def test_page_size() -> None:
    grid = Image.fromarray(np.random.default_rng(0).integers(0, 256, (530, 530), dtype=np.uint8))
    assert len(page(dataclasses.replace(FULL, pictures=[("a", grid)] * 2))) < 2_000_000
    assert len(page(FULL)) < 150_000


def test_write_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("x")
    with refuses(InputError):
        write_report(tmp_path / "file", FULL)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast() -> None:
    style = resources.files("feller.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    )
    pairs = [(ink, back) for ink in ("ink", "soft", "accent") for back in ("paper", "wash")] + [("warn", "warn-wash")]
    for colours in (light, dark):
        for ink, back in pairs:
            low, high = sorted((luminance(colours[ink]), luminance(colours[back])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, back)
        for graphic in ("real", "fine", "bad"):
            bar, paper = sorted((luminance(colours[graphic]), luminance(colours["paper"])))
            assert (paper + 0.05) / (bar + 0.05) >= 3, graphic  # a graphic, not a text


def test_animation_with_still() -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    root = changed(pictures=[("Paths", make_animation(frames, [50, 50], frames[1]))], heading="On the way")
    (moving,) = root.all("picture")
    (image,), (still,) = moving.all("img"), moving.all("source")
    kind, data = (image.attributes["src"] or "").split(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).n_frames == 2
    assert (image.attributes["width"], image.attributes["height"]) == ("64", "48")
    assert "prefers-reduced-motion" in (still.attributes["media"] or "")
    assert (still.attributes["srcset"] or "").startswith("data:image/png;base64,")
    assert "On the way" in [heading.text for heading in root.all("h2")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.9034, "1.90"),
        (0.03123, "0.0312"),
        (9.999, "10.0"),
        (99.96, "100"),
        (12345.6, "12,346"),
        (-3.2, "−3.20"),
        (4000, "4,000"),
        (-7, "−7"),
        (0.0, "0"),
        (0.00099949, "9.99\u202f×\u202f10⁻⁴"),
        (0.0009996, "0.00100"),
        (1.25e6, "1.25\u202f×\u202f10⁶"),
        (999_999.0, "1.00\u202f×\u202f10⁶"),
        (5e-324, "4.94\u202f×\u202f10⁻³²⁴"),
        (-1.7e308, "−1.70\u202f×\u202f10³⁰⁸"),
    ],
)
def test_format_number(value: float, text: str) -> None:
    assert wording.format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1.0, "1"), (2e-6, "2\u202f×\u202f10⁻⁶"), (0.002, "0.002"), (5000.0, "5,000"), (-0.25, "−0.25")],
)
def test_format_brief(value: float, text: str) -> None:
    assert wording.format_brief(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.974, "97.4"), (1.0, "100"), (1, "100"), (0.0, "0"), (0.99951, ">99.9"), (0.9994, "99.9"), (0.0004, "<0.1")],
)
def test_format_percent(share: float, text: str) -> None:
    assert wording.format_percent(share) == f"{text}\u202f%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.32, "0.32 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (93.2, "1 min 33 s"),
        (3599.6, "1 h 00 min"),
        (3725.0, "1 h 02 min"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert wording.format_duration(seconds).replace("\u202f", " ").replace("\u00a0", " ") == text


def test_format_date() -> None:
    assert wording.format_date("2025-11-05") == "5 November 2025"
    assert wording.format_date("2025-11-05T13:06:59+00:00") == "5 November 2025, 13:06"
    assert wording.format_date("yesterday") == "yesterday"


def test_is_number() -> None:
    assert all(map(wording.is_number, (0, -1.5, np.float32(2), np.int64(3))))
    assert not any(map(wording.is_number, (None, "1", True, float("nan"), float("inf"))))
