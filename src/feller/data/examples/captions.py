"""Captions of a scene, in several ways, and questions about it that have one answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from feller.data.examples.picks import Picks
from feller.data.examples.scenes import Scene, Thing


def a(words: str) -> str:
    """Put the article before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def listed(parts: Sequence[str]) -> str:
    """Join parts as in a sentence."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def plain(thing: Thing) -> str:
    """Name colour and shape."""
    return f"{thing.colour} {thing.shape}"


def sized(thing: Thing) -> str:
    """Name size, colour and shape."""
    return f"{thing.size} {plain(thing)}"


def placed(thing: Thing) -> str:
    """Say where a thing is."""
    return f"{'in' if thing.place == 'middle' else 'at'} the {thing.place}"


def caption(scene: Scene, pick: Picks) -> str:
    """Describe a scene: its ground, and the colour and shape of each thing, always; sizes and places now and then."""
    name = pick.one((plain, sized))
    things = [a(name(thing)) for thing in scene.things]
    forms = [
        f"{listed(things)} on {a(scene.ground)} ground",
        f"{a(scene.ground)} ground with {listed(things)}",
        f"{listed([f'{words} {placed(one)}' for words, one in zip(things, scene.things, strict=True)])}"
        f", all on {scene.ground}",
    ]
    if len(things) == 1:
        forms[2] = f"{things[0]} {placed(scene.things[0])} of {a(scene.ground)} ground"
    if len(things) == 2:
        forms.append(f"{things[0]} {relation(*scene.things)} {things[1]} on {a(scene.ground)} ground")
    return pick.one(forms)


def relation(thing: Thing, other: Thing) -> str:
    """Say where a thing is, seen from another: by the direction in which they are further apart."""
    down, right = (i - j for i, j in zip(thing.cell, other.cell, strict=True))
    if abs(right) >= abs(down):
        return "left of" if right < 0 else "right of"
    return "above" if down < 0 else "below"


def details(scene: Scene) -> str:
    """Say all that there is in a scene."""
    number = {1: "is one thing", 2: "are two things", 3: "are three things"}[len(scene.things)]
    things = [f"{a(sized(thing))} {placed(thing)}" for thing in scene.things]
    return f"On {a(scene.ground)} ground there {number}: {listed(things)}."


@dataclass(frozen=True)
class Question:
    """A question and its answer."""

    about: str
    """colour, count, shape or place."""
    text: str
    answer: str


def questions(scene: Scene) -> tuple[Question, ...]:
    """Return all that is asked of a scene; of the colour of a shape only where the scene has it once.

    Nothing is counted where all scenes have the same number of things: the answer would be known without a picture.
    """
    shapes = Counter(thing.shape for thing in scene.things)
    asked = [Question("colour", "what colour is the ground?", scene.ground)]
    if len({*scene.of.counts}) > 1:
        asked.append(Question("count", "how many things are there?", str(len(scene.things))))
        for shape, number in shapes.items():
            asked.append(Question("count", f"how many {several(shape)} are there?", str(number)))
    for thing in scene.things:
        if shapes[thing.shape] == 1:
            asked.append(Question("colour", f"what colour is the {thing.shape}?", thing.colour))
        asked.append(Question("shape", f"what shape is the {thing.colour} thing?", thing.shape))
        asked.append(Question("place", f"where is the {plain(thing)}?", thing.place))
    return tuple(asked)


def several(shape: str) -> str:
    """Return the name of several things of a shape."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"
