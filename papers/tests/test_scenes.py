"""Tests of scenes, captions and instructions."""

import functools
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.captions import caption, details, edit, free_cells, questions, relation
from feller_papers.scenes.documents import Answer, Picture
from feller_papers.scenes.drawing import (
    ALL,
    CELLS,
    CLASS_COLOURS,
    FONT,
    PLACES,
    SIZES,
    SMALL,
    SMALL_HELD_OUT,
    Lettering,
    Scene,
    SceneConfig,
    Thing,
    draw_lettering,
    draw_scenes,
    edges,
    layouts,
    letter_mask,
    render,
    render_letters,
    segmentation,
)
from feller_papers.scenes.instructions import TASKS, instructions, location, scene_pairs
from feller_papers.scenes.shapes import COLOURS, SHAPES, Choices, make_choices, shape_mask

STAR = Thing("green", "star", "small", (0, 0))
SQUARE = Thing("yellow", "square", "large", (0, 2))
RING = Thing("red", "ring", "small", (2, 1))
TWO, THREE = Scene("blue", (STAR, SQUARE)), Scene("blue", (STAR, SQUARE, RING))


@functools.cache
def some_scenes() -> list[Scene]:
    return draw_scenes(300, Rng(0))


def test_distribution_of_scenes() -> None:
    """Colours are distinct; a third of 300 scenes has one, two or three things, within 5 standard deviations of 8.2."""
    for scene in some_scenes():
        colours = [scene.ground, *(thing.colour for thing in scene.things)]
        assert len(set(colours)) == len(colours)
        assert all(-1 <= shift < 1 for thing in scene.things for shift in thing.shift)
    counts = Counter(len(scene.things) for scene in some_scenes())
    assert sorted(counts) == [1, 2, 3]
    assert all(abs(count - 100) < 41 for count in counts.values())
    things = [thing for scene in some_scenes() for thing in scene.things]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS) == {scene.ground for scene in some_scenes()}
    assert {thing.cell for thing in things} == set(CELLS)


def test_a_scene_depends_on_its_number_and_the_seed_alone() -> None:
    assert draw_scenes(7, Rng(0)) == some_scenes()[:7]
    assert draw_scenes(7, Rng(1)) != some_scenes()[:7]


@pytest.mark.slow
def test_held_out_scenes_are_disjoint_and_have_the_same_parts() -> None:
    """Held out is an eighth of all 1,728 scenes of one thing; each pair of attributes also occurs in training."""
    train, test = draw_scenes(8000, Rng(0), SMALL), draw_scenes(2000, Rng(0), SMALL_HELD_OUT)
    assert draw_scenes(20, Rng(0), SMALL_HELD_OUT) == test[:20]
    assert not {*map(without_config, train)} & {*map(without_config, test)}
    assert len({*map(without_config, test)}) == 1728 / 8
    assert len({*map(without_config, train)}) > 0.97 * 1728 * 7 / 8
    for i, j in itertools.combinations(range(5), 2):
        pairs = [{(_parts(scene)[i], _parts(scene)[j]) for scene in scenes} for scenes in (train, test)]
        assert pairs[0] == pairs[1]
    things = [thing for scene in test for thing in scene.things]
    assert {place for thing in things for place in thing.box(16)[:2]} == {0, 4, 6, 8, 10}


def without_config(scene: Scene) -> Scene:
    """Return a scene with the default configuration."""
    return replace(scene, config=ALL)


def _parts(scene: Scene) -> tuple[object, ...]:
    (thing,) = scene.things
    return scene.ground, thing.colour, thing.shape, thing.size, thing.cell


def test_things_are_in_reading_order() -> None:
    for scene in some_scenes():
        cells = [thing.cell for thing in scene.things]
        assert cells == sorted(cells)
        after = [thing.cell for thing in edit(scene, make_choices(1, "edit", Rng(0))[0]).after.things]
        assert after == sorted(after)


@pytest.mark.parametrize("side", [16, 32, 48])
def test_things_fit_and_do_not_overlap(side: int) -> None:
    """For all layouts, sizes and extreme shifts; with a gap of one pixel from side 32 on."""
    gap = side // 32
    corners = list(itertools.product((-1.0, 1.0), repeat=2))
    for sizes in itertools.product(SIZES, repeat=2):
        for cells in layouts(sizes):
            for shifts in itertools.product(corners, repeat=2):
                a, b = (Thing("red", "square", *rest).box(side) for rest in zip(sizes, cells, shifts, strict=True))
                assert min(*a, *b) >= 0
                assert max(*a, *b) <= side
                assert any(a[i] + gap <= b[j] or b[i] + gap <= a[j] for i, j in ((2, 0), (3, 1)))
    assert len(layouts(("small", "small", "large"))) == 48


@pytest.mark.parametrize("side", [16, 32])
def test_shapes_differ_clearly(side: int) -> None:
    for size in SIZES.values():
        masks = [shape_mask(shape, round(size * side)) for shape in SHAPES]
        for a, b in itertools.combinations(masks, 2):
            assert (a ^ b).sum() >= 3
        for mask in masks:
            assert mask.any(0)[[0, -1]].all()
            assert mask.any(1)[0]
            assert (mask == mask[:, ::-1]).all()


def test_shapes_by_hand() -> None:
    assert shape_mask("square", 9).all()
    assert shape_mask("circle", 5).tolist() == [[abs(x) + abs(y) < 4 for x in range(-2, 3)] for y in range(-2, 3)]
    assert shape_mask("diamond", 9).tolist() == [[abs(x) + abs(y) <= 4 for x in range(-4, 5)] for y in range(-4, 5)]
    assert shape_mask("ring", 15)[7].tolist() == [True] * 4 + [False] * 7 + [True] * 4
    area = shape_mask("circle", 201).mean()
    assert area == pytest.approx(np.pi / 4, abs=2e-3)
    assert shape_mask("ring", 201).mean() == pytest.approx(np.pi / 4 * (1 - 0.45**2), abs=2e-3)
    assert shape_mask("triangle", 201).mean() == pytest.approx(0.5, abs=4e-3)
    assert shape_mask("cross", 201).mean() == pytest.approx(1 - 0.72**2, abs=6e-3)


def test_rendered_colours() -> None:
    picture = render(THREE, 32)
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
    counts = Counter(map(tuple, picture.reshape(-1, 3).tolist()))
    wanted = {thing.colour: int(shape_mask(thing.shape, round(SIZES[thing.size] * 32)).sum()) for thing in THREE.things}
    wanted["blue"] = 1024 - sum(wanted.values())
    assert {COLOURS[name]: number for name, number in wanted.items()} == counts
    left, top, right, bottom = SQUARE.box(32)
    assert (right - left, bottom - top) == (13, 13)
    assert (picture[top:bottom, left:right] == COLOURS["yellow"]).all()
    with pytest.raises(UsageError, match=r"16, 32, 48.*found 20"):
        render(TWO, 20)


def test_captions_name_all_things() -> None:
    captions = set()
    for choices in make_choices(200, "caption", Rng(0)):
        text = caption(THREE, choices)
        captions.add(text)
        assert all(f"{thing.colour} {thing.shape}" in text for thing in THREE.things)
        assert "blue" in text
        assert text.count("small") in (0, 2)
    assert len(captions) == 6
    assert caption(Scene("blue", (Thing("orange", "circle", "large", (1, 1)),)), Choices([0.0, 0.0])) == (
        "an orange circle on a blue ground"
    )
    assert caption(TWO, Choices([0.9, 0.99])) == "a small green star left of a large yellow square on a blue ground"
    assert details(TWO) == (
        "On a blue ground there are two things: a small green star at the top left and a large yellow square at the"
        " top right."
    )


def test_relations() -> None:
    def relation_of(cell: tuple[int, int], other: tuple[int, int]) -> str:
        return relation(replace(STAR, cell=cell), replace(STAR, cell=other))

    assert relation_of((0, 0), (1, 2)) == "left of"
    assert relation_of((2, 2), (1, 0)) == "right of"
    assert relation_of((0, 1), (2, 1)) == "above"
    assert relation_of((2, 1), (0, 2)) == "below"


def test_questions_have_the_right_answers() -> None:
    answers = {item.text: item.answer for item in questions(THREE)}
    assert answers == {
        "what colour is the ground?": "blue",
        "how many things are there?": "3",
        "how many stars are there?": "1",
        "how many squares are there?": "1",
        "how many rings are there?": "1",
        "what colour is the star?": "green",
        "what shape is the green thing?": "star",
        "where is the green star?": "top left",
        "what colour is the square?": "yellow",
        "what shape is the yellow thing?": "square",
        "where is the yellow square?": "top right",
        "what colour is the ring?": "red",
        "what shape is the red thing?": "ring",
        "where is the red ring?": "bottom",
    }
    crosses = Scene("blue", tuple(replace(item, shape="cross") for item in TWO.things))
    answers = {item.text: item.answer for item in questions(crosses)}
    assert answers["how many crosses are there?"] == "2"
    assert not any("colour is the cross" in text for text in answers)


@pytest.mark.slow
def test_edits_do_not_show_held_out_scenes() -> None:
    """Neither before nor after an edit; edits of held-out scenes may give any scene."""
    train, test = (
        draw_scenes(2000, Rng(0), SMALL),
        {without_config(scene) for scene in draw_scenes(2000, Rng(1), SMALL_HELD_OUT)},
    )
    changes = [edit(scene, choices) for scene, choices in zip(train, make_choices(2000, "edit", Rng(0)), strict=True)]
    assert not {without_config(change.after) for change in changes} & test
    alone = [change.after for change in changes if len(change.after.things) == 1]
    assert (
        {change.ground for change in alone}
        == {thing.colour for change in alone for thing in change.things}
        == set(SMALL.colours)
    )
    assert edit(draw_scenes(1, Rng(0), SMALL_HELD_OUT)[0], Choices(48 * [0.0])).instruction.startswith("make the ")


def test_edits_match_their_instructions() -> None:
    counts = Counter()
    for scene, choices in zip(some_scenes(), make_choices(300, "edit", Rng(0)), strict=True):
        change = edit(scene, choices)
        assert change.before == scene
        removed, added = (set(a.things) - set(b.things) for a, b in ((scene, change.after), (change.after, scene)))
        words = change.instruction.split()
        if change.after.ground != scene.ground:
            counts["ground"] += 1
            assert not removed | added
            assert words[-1] == change.after.ground
        elif removed and added:
            counts["recolour"] += 1
            (old,), (new,) = removed, added
            assert replace(old, colour=new.colour) == new
            assert f"{old.colour} {old.shape} {new.colour}" in change.instruction
        elif removed:
            counts["remove"] += 1
            (old,) = removed
            assert f"the {old.colour} {old.shape}" in change.instruction
        else:
            counts["add"] += 1
            (new,) = added
            assert f"{new.size} {new.colour} {new.shape}" in change.instruction
            assert change.instruction.endswith(new.place)
            cells = tuple(thing.cell for thing in change.after.things)
            assert cells in layouts(tuple(thing.size for thing in change.after.things))
        colours = [change.after.ground, *(thing.colour for thing in change.after.things)]
        assert len(set(colours)) == len(colours)
        assert render(change.after, 16).tolist() != render(scene, 16).tolist()
    assert min(counts[name] for name in ("ground", "recolour", "remove", "add")) > 20


def test_free_cells() -> None:
    for size, cell in itertools.product(SIZES, CELLS):
        assert bool(free_cells(Scene("blue", (replace(STAR, size=size, cell=cell),)))) == (cell != (1, 1))
    assert free_cells(THREE) == []


def test_segmentation() -> None:
    segments, picture = segmentation(THREE, 32), render(THREE, 32)
    assert len(set(CLASS_COLOURS.values())) == len(SHAPES)
    for thing in THREE.things:
        own = (picture == COLOURS[thing.colour]).all(2)
        assert (segments[own] == CLASS_COLOURS[thing.shape]).all()
    assert (segments[(picture == COLOURS["blue"]).all(2)] == 0).all()
    assert (
        segmentation(Scene("red", tuple(replace(thing, colour="gray") for thing in THREE.things)), 32) == segments
    ).all()


def test_edges_by_hand() -> None:
    picture = np.zeros((4, 5, 3), dtype=np.uint8)
    picture[1:3, 2:4, 1] = 40
    picture[0, 0] = 39
    wanted = np.zeros((4, 5), dtype=np.uint8)
    wanted[0, 2:4] = wanted[1:3, 1] = wanted[1:3, 3] = wanted[2, 2:4] = 255
    assert (edges(picture) == wanted[:, :, None]).all()
    assert not edges(render(Scene("blue", ()), 16)).any()


def test_held_out_words_are_disjoint_and_have_the_same_letters() -> None:
    letterings = [draw_lettering(choices) for choices in make_choices(100, "letters", Rng(0))]
    assert {len(lettering.word) for lettering in letterings} == {1, 2, 3}
    assert all(lettering.ink != lettering.ground for lettering in letterings)
    train, test = (
        {draw_lettering(choices, config).word for choices in make_choices(2000, "few", Rng(0))}
        for config in (SMALL, SMALL_HELD_OUT)
    )
    assert not train & test
    assert (len(train), len(test)) == (60, 12)  # of 8 letters alone and 64 pairs
    assert {*"".join(test)} == {*SMALL.letters}
    for word in ("", "ABCD", "a"):
        with pytest.raises(UsageError, match="one to three letters"):
            render_letters(Lettering(word, "red", "white"), 16)


def test_letters_look_different() -> None:
    for a, b in itertools.combinations(FONT.values(), 2):
        assert sum(x != y for x, y in zip(a, b, strict=True)) >= 2
    assert all([len(row) for row in letter.split()] == 5 * [4] for letter in FONT.values())


def test_instructions_follow_the_templates() -> None:
    documents = instructions(3 * len(TASKS), Rng(0), 16)
    assert [document.task for document in documents] == 3 * list(TASKS)
    scenes = draw_scenes(3 * len(TASKS), Rng(0))
    for scene, document in zip(scenes, documents, strict=True):
        kinds = "".join({Picture: "p", Answer: "a"}.get(type(item), "t") for item in document.items)
        text = document.text()
        if document.task == "edit":
            assert kinds == "tptp"
            assert text.startswith("Edit first image following the instruction\n")
        elif document.task in ("edges", "segmentation"):
            assert kinds == "tptp"
            other = edges(render(scene, 16)) if document.task == "edges" else segmentation(scene, 16)
            assert (document.pictures()[0] == other).all()
        elif document.task == "grounding":
            assert kinds == "tp"
            assert text.endswith(", ".join(f"{t.colour} {t.shape} at {location(t, 16)}" for t in scene.things))
        elif document.task == "letters":
            assert kinds == "tp"
            (picture,), word = document.pictures(), text.removeprefix('draw "').removesuffix('"')
            ink = letter_mask(word, 16)
            assert len(np.unique(picture[ink], axis=0)) == len(np.unique(picture[~ink], axis=0)) == 1
            assert (picture[ink][0] != picture[~ink][0]).any()
        elif document.task == "question":
            assert kinds in ("tap", "tatp")
            question, answer = (
                document.items[0].removeprefix("Question: ").partition("?")[0] + "?",
                document.items[1].text,
            )
            assert (question, answer) in [(item.text, item.answer) for item in questions(scene)]
        else:
            assert kinds == "tap"
            assert document.items[0].startswith("Describe the given picture")
        if document.task != "letters":
            assert (document.pictures()[-1] == render(scene, 16)).all() == (document.task != "edit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "prefixes"),
    [(ALL, ["how many", "what colour", "what shape", "where"]), (SMALL, ["what colour", "what shape", "where"])],
)
def test_answers_are_balanced(config: SceneConfig, prefixes: list[str]) -> None:
    """Of 400 (seeded), categories are uniform within 5 standard deviations, and no answer exceeds 70 %."""
    answers_by_question: dict[str, Counter[str]] = {}
    documents = [
        document for document in instructions(400 * len(TASKS), Rng(0), 16, config) if document.task == "question"
    ]
    for document in documents:
        first = document.items[0].removeprefix("Question: ").split()
        answers_by_question.setdefault(" ".join(first[: 1 if first[0] == "where" else 2]), Counter())[
            document.items[1].text
        ] += 1
    assert sorted(answers_by_question) == prefixes
    share = 1 / len(prefixes)
    for answers in answers_by_question.values():
        assert abs(answers.total() - 400 * share) < 5 * (400 * share * (1 - share)) ** 0.5
        assert max(answers.values()) < 0.7 * answers.total()


def test_locations_are_first_and_last_pixels() -> None:
    assert SQUARE.box(32) == (18, 1, 31, 14)
    assert location(SQUARE, 32) == "(18, 1) -> (30, 13)"
    assert PLACES[SQUARE.cell[0]][SQUARE.cell[1]] == "top right"


def test_pairs_show_their_scenes() -> None:
    scenes, pairs = scene_pairs(20, Rng(3), 16)
    assert scenes == draw_scenes(20, Rng(3))
    for scene, pair in zip(scenes, pairs, strict=True):
        assert (pair.pictures()[0] == render(scene, 16)).all()
        assert scene.ground in pair.text()
