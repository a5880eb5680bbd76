"""Tests of the recognition of scenes, letters and creatures."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.cm3leon.reading import agreement, content, nearest_colours, read_letters, read_scenes, stack_pictures
from feller_papers.cm3leon.spotting import nearest_views
from feller_papers.cm3leon.world import halve_views
from feller_papers.scenes.creatures import PARTS, View, invent, render_creature, views
from feller_papers.scenes.drawing import (
    FONT,
    Lettering,
    Scene,
    Thing,
    draw_lettering,
    draw_scenes,
    render,
    render_letters,
)
from feller_papers.scenes.shapes import COLOURS, make_choices

STAR = Thing("green", "star", "small", (0, 0))
SQUARE = Thing("yellow", "square", "large", (0, 2))
RING = Thing("red", "ring", "small", (2, 1))
TWO, THREE = Scene("blue", (STAR, SQUARE)), Scene("blue", (STAR, SQUARE, RING))
DRAWS = Rng(0)
MANY = invent(120, DRAWS)
SCENES = draw_scenes(300, DRAWS)


def test_nearest_colours() -> None:
    levels = torch.tensor(list(COLOURS.values()), dtype=torch.uint8).T[None, :, :, None]
    assert nearest_colours(levels)[0, :, 0].tolist() == list(range(10))
    assert nearest_colours(torch.full((1, 3, 1, 1), 220, dtype=torch.uint8)).item() == list(COLOURS).index("white")


@pytest.mark.parametrize("side", [16, 32])
def test_scenes_are_read_exactly(side: int) -> None:
    pictures = stack_pictures([render(scene, side) for scene in SCENES])
    assert agreement(SCENES, read_scenes(pictures)) == dict.fromkeys(
        ("ground", "count", "colours", "shapes", "things", "sizes", "places", "all"), 1.0
    )


def test_reading_is_robust_to_noise() -> None:
    """Noise of standard deviation 40 (seeded): 99 % of the scenes are correct, and all empty grounds."""
    pictures = stack_pictures([render(scene, 32) for scene in SCENES])
    empty = [Scene(ground, ()) for ground in COLOURS]
    pictures = torch.cat([pictures, stack_pictures([render(scene, 32) for scene in empty])])
    noisy = pictures + 40 * Rng(0).stream("noise").normal(pictures.shape)
    predicted = read_scenes(noisy.round().clamp(0, 255).byte())
    assert agreement(SCENES, predicted[:300])["all"] >= 0.99
    assert predicted[300:] == empty


def test_agreement_by_hand() -> None:
    moved = replace(RING, cell=(2, 0))
    predicted = [Scene("blue", (SQUARE, STAR)), Scene("blue", (STAR, SQUARE, moved)), Scene("red", ())]
    expected = [TWO, THREE, Scene("gray", (replace(STAR, colour="red"),))]
    accuracies = agreement(expected, predicted)
    assert accuracies == pytest.approx(
        {
            "ground": 2 / 3,
            "count": 2 / 3,
            "colours": 2 / 3,
            "shapes": 2 / 3,
            "things": 2 / 3,
            "sizes": 2 / 3,
            "places": 1 / 3,
            "all": 1 / 3,
        }
    )
    assert content(TWO) == content(Scene("blue", (replace(SQUARE, shift=(0.5, 0.0)), STAR)))


@pytest.mark.parametrize("side", [16, 32])
def test_letters_are_read_exactly(side: int) -> None:
    """Every letter alone and at each of three positions, and random words."""
    words = [*FONT, *(word for letter in FONT for word in (f"{letter}E", f"O{letter}", f"I{letter}M", f"QW{letter}"))]
    letterings = [draw_lettering(choices) for choices in make_choices(100, "letters", Rng(0))]
    letterings += [Lettering(word, "red", "white") for word in words]
    predicted = read_letters(stack_pictures([render_letters(lettering, side) for lettering in letterings]))
    assert predicted == [lettering.word for lettering in letterings]


@pytest.mark.parametrize("side", [16, 32])
def test_all_views_are_recognised(side: int) -> None:
    expected = [View(creature, ground, part) for creature in MANY[:6] for ground in creature.grounds for part in PARTS]
    assert nearest_views(stack_pictures([render_creature(view, side) for view in expected]), MANY) == expected


def test_creatures_are_recognised_in_noise_and_noise_alone_is_at_chance() -> None:
    """Noise of standard deviation 60 (seeded). On 400 pictures of noise alone, accuracy is 1 / 120: 12 or more have
    probability 2e-4."""
    expected = [views(creature, 1, DRAWS.fold_in(creature.name))[0] for creature in MANY]
    pictures = stack_pictures([render_creature(view, 32) for view in expected])
    noise = Rng(1).stream("noise")
    predicted = nearest_views((pictures + 60 * noise.normal(pictures.shape)).clamp(0, 255).byte(), MANY)
    assert [view.creature for view in predicted] == [view.creature for view in expected]
    empty = (128 + 60 * noise.normal((400, 3, 32, 32))).clamp(0, 255).byte()
    labels = noise.randint(120, (400,)).tolist()
    right = sum(view.creature == MANY[i] for view, i in zip(nearest_views(empty, MANY), labels, strict=True))
    assert right < 12


def test_empty_inputs() -> None:
    with pytest.raises(UsageError, match="found 0 and 32"):
        nearest_views(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [])
    assert nearest_views(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), MANY) == []


def test_views_are_halved_at_random() -> None:
    creature_views = views(MANY[0], 8, DRAWS)
    halves = halve_views(creature_views * 50, DRAWS)  # bounds: six standard deviations
    assert [view.ground for view in halves] == [view.ground for view in creature_views * 50]
    shares = Counter(view.part for view in halves)
    assert all(
        shares[part] == pytest.approx(n, abs=60) for part, n in {"whole": 200, "upper": 100, "lower": 100}.items()
    )
