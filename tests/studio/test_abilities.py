"""What runs of each kind of data can do, and that each tab does it, asked as a client asks; no page is needed."""

import csv
import io
import json
import pathlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feller.code import fingerprint
from feller.data.images.modality import Images
from feller.data.rows import points
from feller.errors import InputError, UsageError
from feller.evaluate import change
from feller.evaluate.quality import EXPLAIN
from feller.journeys.bridges.bridged import bridged_of
from feller.journeys.tell import SILENT
from feller.run import Run
from feller.studio.abilities import ABILITIES, abilities_of
from feller.studio.controls import Cells, Choice, Drawing
from feller.studio.ground import ground_of
from feller.studio.guide import ANY
from feller.studio.heard import Heard
from feller.studio.limits import Limits
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome
from feller.studio.tab import Place, Tab
from feller.studio.tabs.bridging import drawn_paths
from feller.studio.tabs.compare import meaning
from feller.studio.tabs.forming import timed
from feller.tensors import load_tensors, save_tensors
from feller.train.metrics import read_metrics

OnPage = Callable[..., tuple[Opened, Place]]
ALWAYS = ("Compare", "Reports", "Follow")
ABLE = {
    "digits": ("Sample", "Fill in", "Restore", "Watch", "Steer", *ALWAYS),
    "moons": ("Sample", "Watch", *ALWAYS),
    "people": ("Sample", "Fill in", *ALWAYS),
    "book": ("Sample", "Fill in", "Watch", *ALWAYS),
    "quakes": ("Sample", "Watch", *ALWAYS),
    "molecules": ("Sample", *(("Steer",) if find_spec("rdkit") else ()), *ALWAYS),
    "crystals": ("Sample", *(("Steer",) if find_spec("chgnet") else ()), *ALWAYS),
    "proteins": ("Sample", *ALWAYS),
}
SLOW = ("molecules", "crystals", "proteins")
KINDS = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ABLE]
FEW = {"n": 3, "calls": 4, "steps": 1}


def tab_of(page: tuple[Opened, Place], name: str) -> Tab:
    one, place = page
    return next(ability.tab(one, place) for ability in abilities_of(one, place) if ability.name == name)


def ask(tab: Tab, **more: Any) -> Outcome:
    """Ask as the page does at first, for less."""
    usual = {key: getattr(control, "value", None) for key, control in tab.controls.items()}
    return tab.do({**usual, **{key: few for key, few in FEW.items() if key in usual}, **more}, Limits())


@pytest.mark.parametrize("name", KINDS)
def test_runs_have_the_tabs_of_what_they_can_do(on_page: OnPage, name: str) -> None:
    one, place = on_page(name)
    assert tuple(ability.name for ability in abilities_of(one, place)) == ABLE[name]


def test_names_of_tabs_are_told_apart(on_page: OnPage) -> None:
    for name in ("digits", "people", "book"):
        one, place = on_page(name)
        names = [ability.name for ability in abilities_of(one, place)]
        assert len(set(names)) == len(names)
    assert len(ABILITIES) == len({id(ability) for ability in ABILITIES})


@pytest.mark.parametrize("name", KINDS)
def test_samples_are_shown_and_can_be_downloaded_and_the_run_stays_as_it_is(on_page: OnPage, name: str) -> None:
    page = on_page(name)
    before = {path: path.stat().st_mtime_ns for path in page[0].run.path.rglob("*")}
    found = ask(tab_of(page, "Sample"))
    assert [file.parent.parent for file in found.files] == [page[1].scratch.results]
    assert all(file.stat().st_size for file in found.files)
    shown = [Image.open(picture.path).size for picture in found.pictures]
    if name == "people":
        assert found.table is not None
        assert found.table.columns == ("age", "education", "married")
        assert len(found.table.cells) == 3
    elif name == "book":
        assert found.words.count("---") == 3
    else:
        assert len(shown) == 1
    assert {path: path.stat().st_mtime_ns for path in page[0].run.path.rglob("*")} == before


def test_samples_are_those_of_the_command(
    on_page: OnPage, fitted: Callable[[str], pathlib.Path], tmp_path: Any
) -> None:
    from feller.cli import main

    file = ask(tab_of(on_page("digits"), "Sample"), **{"given:label": "7", "guidance": 2.0, "seed": 5}).files[0]
    words = ("--calls", "4", "--given", "label=7", "--guidance", "2", "--seed", "5", "-n", "3")
    assert main(["sample", str(fitted("digits")), *words, "--out", str(tmp_path / "own.npz")]) == 0
    ours, theirs = np.load(file), np.load(tmp_path / "own.npz")
    assert (ours["samples"] == theirs["samples"]).all()
    assert ours["labels"].tolist() == [7, 7, 7]


def test_conditions_and_guidance_are_offered_where_the_model_knows_them(on_page: OnPage) -> None:
    controls = tab_of(on_page("digits"), "Sample").controls
    assert controls["given:label"].options == (ANY, *map(str, range(10)))  # type: ignore[attr-defined]
    assert "guidance" in controls
    assert not {"guidance", "given:label"} & tab_of(on_page("book"), "Sample").controls.keys()


def test_columns_are_given_by_typing(on_page: OnPage) -> None:
    tab = tab_of(on_page("people"), "Sample")
    table = ask(tab, fixed="education=Masters\n\n married = yes ").table
    assert table is not None
    assert {row[1:] for row in table.cells} == {("Masters", "yes")}
    for typed, why in (("education", "NAME=VALUE"), ("a=1", "'a'"), ("married=yes\nmarried=no", "twice")):
        with pytest.raises(UsageError, match=why):
            ask(tab, fixed=typed)


@pytest.mark.slow
def test_what_a_file_gives_is_never_read_from_a_name_that_a_client_types(on_page: OnPage) -> None:
    tab = tab_of(on_page("proteins"), "Sample")
    if "fixed" in tab.controls:
        with pytest.raises(UsageError, match="given by a file"):
            ask(tab, fixed="structure=/etc/passwd")


@pytest.mark.parametrize(
    ("name", "wrong"), [("n", 257), ("n", 0), ("calls", 100_000), ("solver", "x.py:own"), ("given:label", "77")]
)
def test_more_than_the_limits_is_refused(on_page: OnPage, name: str, wrong: Any) -> None:
    with pytest.raises(UsageError):
        ask(tab_of(on_page("digits"), "Sample"), **{name: wrong})


def test_a_client_sends_what_the_tab_asks_for_and_no_more(on_page: OnPage) -> None:
    with pytest.raises(UsageError, match="expected"):
        ask(tab_of(on_page("digits"), "Sample"), out="/tmp/elsewhere")


def test_a_picture_keeps_what_is_not_drawn_over(on_page: OnPage) -> None:
    tab = tab_of(on_page("digits"), "Fill in")
    control = tab.controls["drawing"]
    assert isinstance(control, Drawing)
    levels = np.random.default_rng(0).integers(0, 17, (8, 8))
    picture = Image.fromarray((levels * 255 / 16).round().astype(np.uint8)).resize(control.size, 0)
    layer = Image.new("RGBA", control.size)
    layer.paste((255, 255, 255, 255), (0, 0, control.size[0] // 2, control.size[1]))
    found = ask(tab, drawing={"background": picture, "layers": [layer], "composite": None})
    filled = np.load(found.files[0])["samples"]
    assert (filled[:, :, 4:] == levels[:, 4:]).all()
    assert (filled[0, :, :4] != filled[1, :, :4]).any()
    assert [picture.caption for picture in found.pictures] == ["What was asked", "Filled in"]
    assert control.first().size == control.size


def test_texts_go_on_and_gaps_are_filled(on_page: OnPage) -> None:
    tab = tab_of(on_page("book"), "Fill in")
    found = ask(tab, n=1, known="To be___ not")
    assert re.match(r"To be... not", found.words, re.DOTALL)
    assert len(found.words) > len("To be___ not")
    with pytest.raises(UsageError, match="known text"):
        ask(tab, known="ß")


def test_cells_that_are_typed_stay_and_the_others_are_filled(on_page: OnPage) -> None:
    tab = tab_of(on_page("people"), "Fill in")
    control = tab.controls["cells"]
    assert isinstance(control, Cells)
    found = ask(tab, cells=[["30", "", None], ["", "Masters", "no"], ["", "", ""]])
    assert found.table is not None
    first, second = found.table.cells
    assert first[0] == "30"
    assert second[1:] == ("Masters", "no")
    assert all(map(len, (*first, *second)))
    assert list(csv.reader(found.files[0].open()))[1:] == [list(first), list(second)]
    with pytest.raises(UsageError, match="at least one cell"):
        ask(tab, cells=[["", "", ""]])
    assert ask(tab, cells=[list(row) for row in control.rows]).table is not None


@pytest.mark.parametrize("name", ["digits", "moons", "quakes"])
def test_samples_form_in_pictures_that_move_and_end_where_samples_do(on_page: OnPage, name: str) -> None:
    page = on_page(name)
    found = ask(tab_of(page, "Watch"), n=4)
    about = page[0].about
    assert about is not None
    _, _, times = replace(about.sampling, calls=4).choose(about.path, about.space)
    with Image.open(found.pictures[0].path) as film:
        assert 2 <= film.n_frames <= len(times)  # pictures that are the same are one
    ours, theirs = found.files[1], ask(tab_of(page, "Sample"), n=4).files[0]
    assert ours.read_bytes() == theirs.read_bytes() if ours.suffix == ".csv" else _same(ours, theirs)


def test_pictures_say_their_time() -> None:
    frame = Image.new("L", (64, 40))
    first, later = (np.array(timed(frame, t)) for t in (0.0, 0.5))
    assert first.shape == later.shape == (40 + 28, 64, 3)
    assert (first[28:] == 0).all()  # the picture is whole
    assert (first[:28] != later[:28]).any()


@pytest.mark.parametrize(("name", "what"), [("digits", "picture"), ("book", "line")])
def test_calls_say_what_each_step_gives(on_page: OnPage, name: str, what: str) -> None:
    assert tab_of(on_page(name), "Watch").controls["calls"].hint == f"One {what} for each step."


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
    return bool((np.load(one)["samples"] == np.load(other)["samples"]).all())


def test_a_text_forms_from_nothing_decided_to_all(on_page: OnPage) -> None:
    found = ask(tab_of(on_page("book"), "Watch")).table
    assert found is not None
    times, texts = zip(*found.cells, strict=True)
    assert (times[0], times[-1]) == ("0.00", "1.00")
    undecided = [text.count("·") / len(text) for text in texts]
    assert undecided == sorted(undecided, reverse=True)
    assert (undecided[0], undecided[-1]) == (1, 0)


def test_steering_follows_wishes_that_are_named_at_the_start(on_page: OnPage, tmp_path: pathlib.Path) -> None:
    own = tmp_path / "r.py"
    own.write_text("def left(values, given):\n    return values[..., :4].mean((1, 2, 3)) / 16\n")
    tab = tab_of(on_page("digits", rewards=(f"{own}:left",)), "Steer")
    assert tab.controls["reward"].options == (
        "r.py:left",
        "ink as set below",
        "ink",
        "compressibility",
        "less ink",
        "less compressibility",
    )  # type: ignore[attr-defined]
    found = ask(tab, n=2, steps=3)
    assert found.numbers is not None
    numbers = {row[0]: float(row[1]) for row in found.numbers.cells if "%" not in row[1]}
    assert numbers["reward"] > numbers["reward, before"]
    assert {row[0] for row in found.numbers.cells if not row[2]} == set()  # each has a meaning
    assert [picture.caption for picture in found.pictures] == ["Before", "Steered"]


def test_the_first_wish_of_pictures_ends_at_a_value(on_page: OnPage, monkeypatch: pytest.MonkeyPatch) -> None:
    wished: list[tuple[str, ...]] = []

    def steer(run: Any, rewards: tuple[str, ...], *_: Any, **__: Any) -> None:
        wished.append(rewards)
        raise InputError("enough")

    monkeypatch.setattr("feller.journeys.steer.steer", steer)
    tab = tab_of(on_page("digits"), "Steer")
    for more in ({}, {"ink": 0.25}, {"reward": "ink"}, {"reward": "less ink", "ink": 0.1}):
        with pytest.raises(InputError, match="enough"):
            ask(tab, **more)
    assert wished == [("ink == 0.4",), ("ink == 0.25",), ("ink",), ("-1 * ink",)]
    assert "blots" in tab.controls["reward"].hint
    assert tab.controls["ink"].only == ("reward", "ink as set below")


def test_points_are_steered_too(on_page: OnPage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "r.py"
    own.write_text("def right(values, given):\n    return values[:, 0]\n")
    rewards = (f"{own}:right", f"{own}:right <= 0.1")
    tab = tab_of(on_page("moons", rewards=rewards), "Steer")
    assert "can offer" not in ask(tab, reward="r.py:right <= 0.1").said
    framed: list[tuple[int, int]] = []
    scatter = points.scatter

    def seen(values: np.ndarray, *words: Any, beside: np.ndarray, behind: np.ndarray) -> Image.Image:
        framed.append((len(beside), len(behind)))
        return scatter(values, *words, beside=beside, behind=behind)

    monkeypatch.setattr(points, "scatter", seen)
    found = ask(tab, n=3, steps=2)
    assert framed == [(3, 1000), (3, 1000)]  # each has room for the other, and for what both are seen before
    assert "can offer such a wish" in found.said
    before, after = (np.array(Image.open(shown.path)) for shown in found.pictures)
    assert before.shape == after.shape
    assert (before != after).any()
    assert found.numbers is not None
    numbers = {row[0]: float(row[1]) for row in found.numbers.cells if "%" not in row[1]}
    assert numbers["reward"] > numbers["reward, before"]


@pytest.mark.slow
def test_wishes_for_molecules_wait_for_their_elements(on_page: OnPage, tmp_path: pathlib.Path) -> None:
    own = tmp_path / "r.py"
    own.write_text("def wide(values, given):\n    return values['place'].square().mean((1, 2))\n")
    page = on_page("molecules", rewards=(f"{own}:wide",))
    with pytest.raises(UsageError, match="give element"):
        ask(tab_of(page, "Steer"), n=1)
    elements = tab_of(page, "Steer").controls["fixed"]
    assert "element" in elements.hint
    assert len(ask(tab_of(page, "Steer"), n=1, fixed="element=C4H8O2").pictures) == 2


def test_pictures_are_restored_from_what_is_left_of_them(on_page: OnPage, tmp_path: pathlib.Path) -> None:
    page = on_page("digits")
    tab, levels = tab_of(page, "Restore"), np.random.default_rng(0).integers(0, 17, (8, 8))
    assert "colours gone" not in tab.controls["how"].options  # type: ignore[attr-defined]
    Image.fromarray((levels * 255 / 16).round().astype(np.uint8)).save(tmp_path / "own.png")
    found = ask(tab, n=2, picture=str(tmp_path / "own.png"), how="2 x 2 pixels become one")
    captions = ["The picture", "What is left of it", "Restored", "Mean of those"]
    assert [shown.caption for shown in found.pictures] == captions
    made = np.load(found.files[0])["samples"]
    made, given = (one.reshape(-1, 4, 2, 4, 2).mean((2, 4), dtype=float) for one in (made, levels))
    for each in made:  # not equal, as what an untrained model draws beyond black and white is cut
        assert np.corrcoef(each.ravel(), given.ravel())[0, 1] > 0.8
    assert ask(tab, n=1, how="16 random sums of all pixels").pictures[1].caption == "Restored"
    assert re.fullmatch(r"What is left of .* by (less than 0.01|\d+\.\d\d) of 16 gray levels on average\.", found.said)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"no.png: this is no picture"):
        ask(tab, picture=str(tmp_path / "no.png"))


def test_a_page_says_how_many_are_shown_where_not_all_are(on_page: OnPage) -> None:
    assert ask(tab_of(on_page("digits"), "Sample"), n=101, calls=2).said == (
        "the first 100 of 101 are shown; all are in samples.npz"
    )
    assert ask(tab_of(on_page("digits"), "Compare"), n=101).said == "the first 100 of 101 are shown"
    assert ask(tab_of(on_page("digits"), "Sample"), n=100, calls=2).said == ""
    assert ask(tab_of(on_page("moons"), "Sample"), n=300, calls=2).said == ""  # all points are in one plot
    people = ask(tab_of(on_page("people"), "Sample"), n=120)
    assert people.table is not None
    assert len(people.table.cells) == 100
    assert people.said == "the first 100 of 120 are shown; all are in samples.csv"


def test_a_run_says_what_it_was_tuned_to_and_what_it_keeps_back(
    on_page: OnPage, fitted: Any, tmp_path: pathlib.Path
) -> None:
    for name, key, value in (
        ("tuned", "tuned", {"base": "runs/digits", "rewards": ["ink", "/srv/own.py:warm"], "method": "x"}),
        ("private", None, {"epsilon": 4.0, "delta": 1e-5, "n": 9, "sigma": 1.0, "clip": 1.0, "batch": 3, "steps": 3}),
    ):
        shutil.copytree(fitted("digits"), tmp_path / name)
        record = json.loads((tmp_path / name / "recipe.json").read_text())
        if key:
            record[key] = value
        else:
            record["asked"]["private"] = value
        (tmp_path / name / "recipe.json").write_text(json.dumps(record))
    page = on_page("digits", tmp_path / "tuned", tmp_path / "private")
    plain, tuned, private = (one.asked for one in page[1].runs)
    assert plain == "example:digits, fitted with the recipe images"
    assert tuned == f"{plain}, tuned to ink and own.py:warm"
    assert private == f"{plain}, private, epsilon 4"


def test_a_guarantee_is_said_once(on_page: OnPage, fitted: Any, tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    shutil.copytree(fitted("moons"), tmp_path / "run")
    page = on_page(tmp_path / "run")
    monkeypatch.setattr("feller.studio.tabs.reports.promise_of", lambda one: "it is < 4.\nIn words: nearly all.")
    (tmp_path / "run" / "report.html").write_text("<p>it is &lt; 4.")
    assert ask(tab_of(page, "Reports")).said == "In words: nearly all."
    (tmp_path / "run" / "report.html").write_text("<p>other")
    assert ask(tab_of(page, "Reports")).said == "it is < 4.\nIn words: nearly all."


@pytest.mark.slow
def test_data_are_pushed_through_a_bridge(on_page: OnPage, bridged: pathlib.Path, tmp_path: pathlib.Path) -> None:
    page = on_page(bridged)
    assert [ability.name for ability in abilities_of(*page)] == ["Push through", "Reports", "Follow"]
    assert page[0].asked == "a bridge from a.csv to b.csv"
    tab = tab_of(page, "Push through")
    ours = np.load(ask(tab).files[1])
    assert ours["paths"].shape[0] == 30
    own = tmp_path / "own.csv"
    own.write_text("x,y\n-2,0\n-1,0\n")
    found = ask(tab, begin=str(own))
    with Image.open(found.pictures[0].path) as film:
        assert film.n_frames > 4
    assert np.load(found.files[1])["paths"][:, 0].tolist() == pytest.approx(np.array([[-2, 0], [-1, 0]]), abs=1e-5)
    back = np.load(ask(tab, way=tab.controls["way"].options[1]).files[1])["paths"]  # type: ignore[attr-defined]
    assert back[:, -1, 0].mean() > 1  # begins at the last population
    (tmp_path / "own.exe").write_text("x,y\n")
    with pytest.raises(UsageError, match="ends in one of"):
        ask(tab, begin=str(tmp_path / "own.exe"))


@pytest.mark.slow
def test_walls_that_a_bridge_goes_around_are_drawn(
    on_page: OnPage, bridged: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    def frame(found: Outcome) -> np.ndarray:
        with Image.open(found.pictures[0].path) as film:
            return np.asarray(film.convert("RGB")).astype(int)

    room = tmp_path / "room.png"
    grey = np.full((20, 40), 255, dtype=np.uint8)
    grey[5:15, 18:22] = 0
    Image.fromarray(grey).save(room)
    shutil.copytree(bridged, tmp_path / "walled")
    record = json.loads((bridged / "recipe.json").read_text())
    asked = {"costs": [str(room), "x.py:hill"], "code": [fingerprint(room)], "frame": [-4.0, 4.0, -2.0, 2.0]}
    record["bridged"] |= asked
    (tmp_path / "walled" / "recipe.json").write_text(json.dumps(record))
    open_one, walled = on_page(bridged), on_page(tmp_path / "walled")
    found = ask(tab_of(walled, "Push through"))
    wall = np.array([0x8B, 0x91, 0x99])
    drawn = [(abs(frame(one) - wall).max(-1) <= 8).mean() for one in (ask(tab_of(open_one, "Push through")), found)]
    assert drawn[0] < 0.005 < 0.015 < drawn[1]  # the paths hide a part of it
    assert "Dark is wall; hatched is outside" in found.said
    assert "What code says that places cost is not drawn" in found.said

    ground = ground_of(bridged_of(walled[0].run), 2)
    places = np.array([[0.0, 0.0], [0.0, 1.5], [2.0, 0.0], [0.3, -0.9]])
    assert ground["walls"](places).tolist() == [True, False, False, True]
    assert ground["frame"] == (-4.0, 4.0, -2.0, 2.0)
    room.write_bytes(b"another")
    assert ground_of(bridged_of(walled[0].run), 2) == {}
    assert ask(tab_of(walled, "Push through")).pictures


def test_a_client_cannot_name_code(on_page: OnPage, tmp_path: pathlib.Path) -> None:
    own = tmp_path / "r.py"
    own.write_text("raise SystemExit\n")
    with pytest.raises(UsageError, match="choose one of the list"):
        ask(tab_of(on_page("digits"), "Steer"), reward=f"{own}:left")


def test_two_runs_and_two_checkpoints_stand_side_by_side(on_page: OnPage, fitted: Any, tmp_path: pathlib.Path) -> None:
    shutil.copytree(fitted("digits"), tmp_path / "other")
    page = on_page("digits", tmp_path / "other", "moons")
    tab = tab_of(page, "Compare")
    first, second = tab.controls["first"], tab.controls["second"]
    assert len(first.options) == 4  # type: ignore[attr-defined]
    assert second.value.startswith("other")  # type: ignore[attr-defined]
    left, right = ask(tab).pictures
    assert left.path.read_bytes() == right.path.read_bytes()  # the same weights and seed
    weights, about = load_tensors(tmp_path / "other" / "weights.safetensors")
    save_tensors(tmp_path / "other" / "weights.safetensors", {name: 2 * one for name, one in weights.items()}, about)
    last = next(name for name in first.options if "other" in name and "last" in name)  # type: ignore[attr-defined]
    left, right = ask(tab, second=last).pictures
    assert left.path.read_bytes() != right.path.read_bytes()


def test_two_tables_stand_side_by_side_with_the_numbers_of_their_reports(
    on_page: OnPage, fitted: Any, tmp_path: pathlib.Path
) -> None:
    for name in ("one", "two"):
        shutil.copytree(fitted("people"), tmp_path / name)
    page = on_page(tmp_path / "one", tmp_path / "two")
    assert ask(tab_of(page, "Compare")).numbers is None  # neither has been evaluated
    numbers = {"one": {"tv2": 0.25, "tv2_floor": 0.125, "steps": 3}, "two": {"tv2": 0.5, "valid": 1.0, "steps": 4}}
    means = {"tv2": "Share of the rows: lower is better.", "valid": "Share that fits."}
    for name, found in numbers.items():
        (tmp_path / name / "report.json").write_text(json.dumps({"numbers": found, "explanations": means}))
    tab = tab_of(page, "Compare")
    found = ask(tab, seed=4)
    left, right = found.sides
    assert (left.title, right.title) == (tab.controls["first"].value, tab.controls["second"].value)  # type: ignore[attr-defined]
    assert left.cells == right.cells == ask(tab_of(page, "Sample"), seed=4).table.cells  # type: ignore[union-attr]
    assert found.words == ""
    assert found.numbers is not None
    assert found.numbers.columns == ("number", "one", "two", "for comparison", "meaning")
    there = {row[0]: [cell.replace("\u202f", " ") for cell in row[1:]] for row in found.numbers.cells}
    assert there == {
        "rows off in two columns": ["25.0 %", "50.0 %", "12.5 %, real rows drawn again", means["tv2"]],
        "rows that the schema allows": ["–", "100 %", "100 %, real rows", "Share that fits."],
        "steps": ["3", "4", "", "Training steps."],
    }
    of_one = [name for name in tab.controls["first"].options if name.startswith("one")]  # type: ignore[attr-defined]
    assert ask(tab, first=of_one[0], second=of_one[1]).numbers is None  # a report is of a run, not of a checkpoint


def test_numbers_say_whether_more_or_less_is_better() -> None:
    assert meaning("kl", {"kl": "Divergence."}) == "Divergence. Less is nearer to the base."
    assert meaning("fd_cnn", {"fd_cnn": "A distance: lower is better."}) == "A distance: lower is better."
    assert meaning("epsilon", {}).endswith("Less protects more.")
    assert meaning("other", {}) == ""
    for name in ("reward_tilted", "fd_cnn", "bits_per_dimension", "straightness"):
        assert re.search("better|[Mm]ore|[Ll]ess", meaning(name, {**EXPLAIN, **change.EXPLAIN}))


def test_the_example_of_a_row_is_a_usual_one(on_page: OnPage) -> None:
    control = tab_of(on_page("people"), "Fill in").controls["cells"]
    assert isinstance(control, Cells)
    first = control.rows[0]
    assert 30 <= int(first[0]) <= 60  # of ages from 20 to 69
    assert not any(cell for row in (first[1:], *control.rows[1:]) for cell in row)


def test_a_report_that_was_made_after_the_page_is_shown(on_page: OnPage, fitted: Any, tmp_path: pathlib.Path) -> None:
    shutil.copytree(fitted("moons"), tmp_path / "run")
    tab = tab_of(on_page(tmp_path / "run"), "Reports")
    (tmp_path / "run" / "report.html").write_text("<p>at last")
    assert ask(tab).page == "<p>at last"


def test_reports_of_the_run_alone_are_shown(on_page: OnPage, fitted: Any, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted("moons"), run)
    with pytest.raises(InputError, match="feller evaluate"):
        ask(tab_of(on_page(run), "Reports"))
    (tmp_path / "secret.html").write_text("secret")
    (run / "report-linked.html").symlink_to(tmp_path / "secret.html")
    (run / "report.html").write_text("<p>how good it is")
    (run / "report-audit.html").write_text("<p>what leaks")
    (run / "notes.html").write_text("mine")
    tab = tab_of(on_page(run), "Reports")
    assert tab.controls["report"].options == ("evaluation", "audit")  # type: ignore[attr-defined]
    assert ask(tab).page == "<p>how good it is"
    assert ask(tab, report="audit").page == "<p>what leaks"
    for name in ("linked", "report-audit", "../secret", "notes"):
        with pytest.raises(UsageError):
            ask(tab, report=name)


def test_a_running_fit_is_followed_from_before_its_first_step(on_page: OnPage, fitted: Any, tmp_path: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.json", "recipe.json"):
        shutil.copy(fitted("digits") / name, run / name)
    page = on_page(run)
    follow = tab_of(page, "Follow")
    assert follow.every is not None
    assert "no step has been saved yet" in ask(follow).said
    with pytest.raises(InputError, match=r"weights|average"):
        ask(tab_of(page, "Sample"))
    lines = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": step} for step in (1, 10, 20)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')
    found = ask(follow)
    assert "step 20, loss 0.05; weights are not saved yet" in found.said  # more than were planned
    record = json.loads((run / "recipe.json").read_text())
    record["recipe"]["train"]["steps"] = 140
    (run / "recipe.json").write_text(json.dumps(record))
    told = "step 20 of 140, 14 %, about 2 minutes of fitting left, and then its report, loss 0.05;"
    with Run(run).lock():
        assert told in ask(follow).said
    assert "step 20 of 140, 14 %, loss 0.05; weights are not saved yet; nobody works on it now" in ask(follow).said
    assert "<svg" in found.drawing
    Image.new("RGB", (4, 4)).save(run / "preview.png")
    shutil.copy(fitted("digits") / "average.safetensors", run)
    found = ask(follow)
    assert "not saved" not in found.said
    assert [picture.caption for picture in found.pictures] == ["Preview"]
    assert ask(tab_of(page, "Sample")).pictures
    assert not found.over
    (run / "state.json").write_text(json.dumps({"step": 140, "seconds": 140.0}))
    with Run(run).lock():
        found = ask(follow)
    assert "all 140 steps are done; its report is being made" in found.said
    assert "looks again" in found.said
    assert not found.over
    assert "its report is missing; make it with: feller evaluate" in ask(follow).said  # Ctrl-C came before it
    (run / "report.html").write_text("<p>how good it is")
    found = ask(follow)
    assert "finished after 140 steps; its report is under Reports" in found.said
    assert "looks again" not in found.said
    assert found.over
    (run / "state.json").write_text(json.dumps({"step": 100, "seconds": 100.0}))  # fitted anew, or for longer
    assert not ask(follow).over


def test_reports_that_are_made_while_the_page_is_open_are_there(
    on_page: OnPage, fitted: Any, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted("moons"), run)
    tab = tab_of(on_page(run), "Reports")
    choice = tab.controls["report"]
    assert isinstance(choice, Choice)
    (run / "report.html").write_text("<p>how good it is")
    assert ask(tab).page == "<p>how good it is"
    assert choice.anew(choice.value) == (("evaluation",), "evaluation")
    (run / "report-audit.html").write_text("<p>what leaks")
    assert choice.anew("evaluation") == (("evaluation", "audit"), "evaluation")
    assert ask(tab, report="audit").page == "<p>what leaks"


def test_the_last_loss_is_there(fitted: Any) -> None:
    assert [row["step"] for row in read_metrics(Run(fitted("moons")).metrics)] == [1, 3]


def test_a_push_says_what_was_pushed_and_can_be_stopped_on_its_way(on_page: OnPage, bridged: pathlib.Path) -> None:
    told: list[float | None] = []
    tab = tab_of(on_page(bridged), "Push through")
    sent = {"begin": None, "way": tab.controls["way"].value, "seed": "0"}  # type: ignore[attr-defined]
    found = tab.do(sent, Limits(), Heard(lambda share, text: told.append(share)))
    assert "What was pushed: a.csv, the first population, as no file was uploaded." in found.said
    assert len([share for share in told if share]) > 40  # at steps of the simulation, and at frames of the film


@pytest.mark.parametrize("channels", [1, 3])
def test_paths_of_pictures_are_drawn_as_pictures(channels: int) -> None:
    """Gray ones have no channel in their file; there is one row of pictures for each path."""
    levels = np.random.default_rng(0).integers(0, 17, (5, 4, 8, 8, channels)).astype(np.uint8)
    found = {"paths": levels if channels == 3 else levels[..., 0], "times": np.linspace(0, 1, 4)}
    drawn, ground = drawn_paths(Images(8, 8, channels, levels=16), found, None, ("first", "last"), SILENT)
    shown = Image.open(io.BytesIO(drawn))
    assert (shown.format, ground) == ("PNG", "")
    assert min(shown.size) >= 32
