"""Questions about scenes that have one answer."""

from collections import Counter
from dataclasses import dataclass

from feller.reproduce.cm3leon.captions import plain
from feller.reproduce.cm3leon.scenes import Scene


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
