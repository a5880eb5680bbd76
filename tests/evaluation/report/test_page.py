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
from feller.evaluation.report.figure import animated
from feller.evaluation.report.page import Findings, page, write_report
from tests.evaluation.report.reader import Node, read

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
NAN = float("nan")
PICTURE = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
FULL = Findings(
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
    explanations={"accuracy": "Share that a judge reads as asked.", "fd_cnn_floor": "Real against real."},
    notes=("no value is above 16, which was taken as white",),
    settings={"train": {"lr": 2e-3, "steps": None, "betas": (0.9, 0.99)}, "seed": 0},
    curve=[{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": float(step)} for step in range(1, 401)],
    pictures=[("Samples", PICTURE), ("Real digits", PICTURE)],
    next_steps=[("feller sample runs/digits-1 -n 1000", "Draw 1,000 samples.")],
    versions={"feller": "0.1.0"},
)


def changed(**fields: object) -> Node:
    return read(page(dataclasses.replace(FULL, **fields)))


def test_tiles_call_other_numbers_as_tiles_do() -> None:
    root = changed(explanations={"accuracy": "More than judge_accuracy is no merit.", "fd_cnn": "Beside fd_cnn_floor."})
    tiles = [tile.text for tile in root.of("meaning")]
    assert tiles == ['More than "real data" is no merit.', 'Beside "real against real".']
    assert "More than judge_accuracy is no merit." in root.text  # where numbers have the names that files have


def test_the_first_sentence_stands_out_and_no_flag_is_broken() -> None:
    root = changed(said="Poor: 4.5 of 5. A schema (--schema) helps. See below.")
    verdict = root.of("verdict")[0]
    assert verdict.text == "Poor: 4.5 of 5. A schema (--schema) helps. See below."
    assert verdict.of("further")[0].text == "A schema (--schema) helps. See below."
    assert verdict.of("flag")[0].text == "--schema"
    assert not changed(said="Good: all.").of("further")


def rows(root: Node) -> dict[str, str]:
    return {row.all("th")[0].text: row.all("td")[0].text for row in root.all("tr") if row.all("td")}


def test_the_page_is_whole_and_semantic() -> None:
    root = changed()
    assert root.all("html")[0].attributes["lang"] == "en"
    assert [len(root.all(tag)) for tag in ("html", "head", "body", "title", "main", "h1")] == [1] * 6
    assert root.of("verdict")[0].text.replace("\u202f", " ").startswith("Good: 97.4 % of the samples")
    titles = [title.text for title in root.all("h2")]
    assert titles == [
        "How good the samples are",
        "Samples",
        "Training",
        "How to go on",
        "What was converted and chosen",
        "Details",
    ]
    assert [figure.all("figcaption")[0].text for figure in root.of("pictures")[0].all("figure")] == [
        "Samples",
        "Real digits",
    ]
    assert all(image.attributes["alt"] for image in root.all("img"))
    assert all("open" not in fold.attributes for fold in root.all("details"))
    assert root.of("command")[1].text == "feller sample runs/digits-1 -n 1000"


def test_each_key_number_stands_beside_its_floor() -> None:
    cards = [re.sub(r"\s", " ", card.text) for card in changed().all("dl")[0].children if isinstance(card, Node)]
    assert cards == [
        "Read as asked97.4 %real data 98.9 %Share that a judge reads as asked.",
        "FD-cnn1.90real against real 1.20",
        "Distance to training data1.02unseen real data 1",
    ]
    widths = [bar.attributes["style"] for bar in changed().of("bars")[1].all("i")]
    assert widths == ["width:100.0%", "width:63.2%"]
    assert "Grey is what real data reach" in changed().text
    assert "Grey is" not in changed(numbers={"fd_cnn": 1.9, "fd_cnn_floor": None}).text
    assert "Grey is what stands beside it: guessing" in changed(numbers={"loss_auc": 0.5}).text
    assert "Judge: 1,437 pictures of digits." in changed().text


def test_nothing_is_loaded_and_nothing_runs() -> None:
    root = changed(notes=("see https://example.org",), title="http://example.org")
    for node in root.all(""):
        assert node.tag not in ("script", "iframe", "object", "embed", "form", "base", "a", "video", "audio", "use")
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href", "srcset", "xlink:href", "action") or value.startswith("data:")
    style = root.all("style")[0].text
    assert not re.search(r"@import|url\(", style)
    policy = [meta.attributes for meta in root.all("meta") if "http-equiv" in meta.attributes]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_whatever_comes_from_the_data_is_escaped() -> None:
    root = changed(
        title=EVIL,
        command=EVIL,
        made=EVIL,
        unfinished=EVIL,
        numbers={**FULL.numbers, EVIL: 1.0, "judge": EVIL, "gone": None},
        explanations={EVIL: EVIL, "fd_cnn": EVIL},
        missing={"gone": EVIL},
        notes=(EVIL,),
        settings={EVIL: {EVIL: EVIL, "list": [EVIL]}},
        loss_unit=EVIL,
        pictures=[(EVIL, PICTURE), (EVIL, PICTURE)],
        next_steps=[(EVIL, EVIL)],
        versions={EVIL: EVIL},
    )
    assert not root.all("script")
    assert len(root.all("img")) == 2
    assert root.all("h1")[0].text == EVIL
    assert root.of("command")[0].text == root.of("command")[1].text == EVIL
    assert rows(root)[f"{EVIL}.{EVIL}"] == EVIL
    assert root.all("figcaption")[0].text == EVIL
    assert root.all("img")[0].attributes["alt"] == f"Picture: {EVIL}"


def test_json_holds_the_numbers_that_the_page_shows(tmp_path: pathlib.Path) -> None:
    numbers = {**FULL.numbers, "energy": NAN, "nll": None, "sliced_w": float("inf")}
    write_report(tmp_path / "run", dataclasses.replace(FULL, numbers=numbers))
    assert sorted(os.listdir(tmp_path / "run")) == ["report.html", "report.json"]
    text = (tmp_path / "run" / "report.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["numbers"] == {**FULL.numbers, "energy": None, "nll": None, "sliced_w": None}
    assert data["notes"] == list(FULL.notes)
    assert data["settings"] == {"train": {"lr": 2e-3, "steps": None, "betas": [0.9, 0.99]}, "seed": 0}
    assert data["next_steps"] == [list(FULL.next_steps[0])]
    assert not {"pictures", "curve"} & set(data)
    root = read((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert set(numbers) <= set(rows(root))


def test_numbers_that_are_missing_say_why() -> None:
    numbers = {"sliced_w": 0.03, "sliced_w_floor": None, "energy": NAN, "accuracy": None, "mine": None}
    root = changed(numbers=numbers, missing={"mine": "The disk was full."}, explanations={})
    cards = [card.text for card in root.all("dl")[0].children if isinstance(card, Node)]
    assert cards == [
        "Sliced Wasserstein distance0.0300real against real – (there are no held-out data, or too few)",
        "Energy distance–It came out as no finite number, so something diverged.",
        "Read as asked–The data have no labels to ask for.",
        "Mine–The disk was full.",
    ]
    assert rows(root)["energy"] == rows(root)["mine"] == "–"


def test_an_empty_run_says_what_is_missing() -> None:
    root = read(page(Findings(title="nothing")))
    words = root.text
    for sentence in (
        "How good the samples are was not measured.",
        "No number was measured.",
        "No samples were drawn",
        "No loss was recorded.",
        "Nothing had to be converted, chosen or left out.",
        "No settings were recorded.",
        "a command that was not recorded",
    ):
        assert sentence in words
    assert all(part.text.strip() for tag in ("p", "dd", "td", "h2", "li") for part in root.all(tag))


def test_parts_that_are_missing_are_said() -> None:
    assert "There are no real data to set beside the samples." in changed(pictures=FULL.pictures[:1]).text
    empty = Image.new("L", (10, 0))
    assert "No samples were drawn" in changed(pictures=[("Samples", empty)]).text
    assert "What was seen" not in changed(pictures=(), seen="What was seen").text
    assert "recorded at one step only" in changed(curve=FULL.curve[:1]).text
    broken = [*FULL.curve, {"step": 401, "loss": NAN, "lr": 1e-3}]
    assert "Recorded steps whose loss was no finite number: 1." in changed(curve=broken).text
    assert "This run is not complete. Stopped at step 5." in changed(unfinished="Stopped at step 5.").text


def test_settings_are_named_as_on_the_command_line_and_bounded() -> None:
    settings = {
        "data": {"columns": tuple(f"c{i}" for i in range(5000)), "empty": {}},
        "many": {str(i): i for i in range(600)},
    }
    shown = rows(changed(settings=settings))
    assert len(shown["data.columns"]) < 200
    assert shown["data.columns"].endswith("… (5000 in all)")
    assert shown["data.empty"] == "not set"
    assert "102 more are in report.json." in changed(settings=settings).text
    assert rows(changed())["train.betas"] == "[0.9, 0.99]"


def test_wide_pictures_stand_below_each_other() -> None:
    assert (
        changed(pictures=[("a", Image.new("L", (1260, 400)))] * 2).of("pictures")[0].attributes["class"]
        == "pictures wide"
    )
    assert changed().of("pictures")[0].attributes["class"] == "pictures"


def test_the_page_is_small() -> None:
    grid = Image.fromarray(np.random.default_rng(0).integers(0, 256, (530, 530), dtype=np.uint8))
    assert len(page(dataclasses.replace(FULL, pictures=[("a", grid)] * 2))) < 2_000_000
    assert len(page(FULL)) < 60_000


def test_a_disk_that_refuses_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot write the report to .*file"):
        write_report(tmp_path / "file", FULL)


def test_samples_of_no_run_have_no_training(tmp_path: pathlib.Path) -> None:
    root = changed(curve=None, settings={}, judged="40 samples in new.npz, beside 360 held-out examples")
    titles = [title.text for title in root.all("h2")]
    assert "Training" not in titles
    assert "Settings" not in [title.text for title in root.all("summary")]
    assert "40 samples in new.npz, beside 360 held-out examples" in root.all("header")[0].text
    write_report(tmp_path, FULL, "report-new")
    assert sorted(os.listdir(tmp_path)) == ["report-new.html", "report-new.json"]


def test_a_second_report_replaces_the_first(tmp_path: pathlib.Path) -> None:
    write_report(tmp_path, FULL)
    write_report(tmp_path, dataclasses.replace(FULL, title="again"))
    assert json.loads((tmp_path / "report.json").read_text())["title"] == "again"
    assert len(os.listdir(tmp_path)) == 2


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_and_dark() -> None:
    style = resources.files("feller.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    )
    pairs = [(ink, back) for ink in ("ink", "soft", "accent") for back in ("paper", "wash")] + [("warn", "warn-wash")]
    for colours in (light, dark):
        for ink, back in pairs:
            low, high = sorted((luminance(colours[ink]), luminance(colours[back])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, back)
        bar, paper = sorted((luminance(colours["real"]), luminance(colours["paper"])))
        assert (paper + 0.05) / (bar + 0.05) >= 3  # a graphic, not a text


def test_what_moves_is_embedded_with_a_still_for_those_who_want_none() -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    root = changed(pictures=[("Paths", animated(frames, [50, 50], frames[1]))], seen="On the way")
    (moving,) = root.all("picture")
    (image,), (still,) = moving.all("img"), moving.all("source")
    kind, data = (image.attributes["src"] or "").split(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).n_frames == 2
    assert (image.attributes["width"], image.attributes["height"]) == ("64", "48")
    assert "prefers-reduced-motion" in (still.attributes["media"] or "")
    assert (still.attributes["srcset"] or "").startswith("data:image/png;base64,")
    assert "On the way" in [heading.text for heading in root.all("h2")]
    assert "beside the samples" not in root.text


def test_a_private_training_keeps_no_losses() -> None:
    curve = [{"step": float(step), "lr": 0.1} for step in range(4)]
    told = page(Findings(title="t", curve=curve, promise="Each row is protected."))
    assert "Losses of a private training are not kept, since they tell of rows." in told
    assert "no finite number" not in told
    assert "No loss was recorded." in page(Findings(title="t", curve=()))
