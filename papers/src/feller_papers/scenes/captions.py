"""Captions of scenes, questions with one answer, and edits."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from feller_papers.scenes.drawing import SIZES, Cell, Scene, Thing, in_order, is_held_out, layouts
from feller_papers.scenes.shapes import SHAPES, Choices


def with_article(words: str) -> str:
    """Return a phrase with its indefinite article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def join_list(parts: Sequence[str]) -> str:
    """Return an enumeration with commas and `and`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def colour_shape(thing: Thing) -> str:
    """Return colour and shape."""
    return f"{thing.colour} {thing.shape}"


def size_colour_shape(thing: Thing) -> str:
    """Return size, colour and shape."""
    return f"{thing.size} {colour_shape(thing)}"


def position_phrase(thing: Thing) -> str:
    """Return the position as a phrase."""
    return f"{'in' if thing.place == 'middle' else 'at'} the {thing.place}"


def caption(scene: Scene, choices: Choices) -> str:
    """Return a random caption: always the ground and each thing's colour and shape, sometimes sizes and positions."""
    describe = choices.choose((colour_shape, size_colour_shape))
    things = [with_article(describe(thing)) for thing in scene.things]
    forms = [
        f"{join_list(things)} on {with_article(scene.ground)} ground",
        f"{with_article(scene.ground)} ground with {join_list(things)}",
        f"{join_list([f'{words} {position_phrase(thing)}' for words, thing in zip(things, scene.things, strict=True)])}"
        f", all on {scene.ground}",
    ]
    if len(things) == 1:
        forms[2] = f"{things[0]} {position_phrase(scene.things[0])} of {with_article(scene.ground)} ground"
    if len(things) == 2:
        forms.append(f"{things[0]} {relation(*scene.things)} {things[1]} on {with_article(scene.ground)} ground")
    return choices.choose(forms)


def relation(thing: Thing, other: Thing) -> str:
    """Return the relation of a thing to another, along the axis of the larger distance."""
    down, right = (i - j for i, j in zip(thing.cell, other.cell, strict=True))
    if abs(right) >= abs(down):
        return "left of" if right < 0 else "right of"
    return "above" if down < 0 else "below"


def details(scene: Scene) -> str:
    """Return a complete description."""
    number = {1: "is one thing", 2: "are two things", 3: "are three things"}[len(scene.things)]
    things = [f"{with_article(size_colour_shape(thing))} {position_phrase(thing)}" for thing in scene.things]
    return f"On {with_article(scene.ground)} ground there {number}: {join_list(things)}."


@dataclass(frozen=True)
class Question:
    """A question and its answer."""

    category: str
    """colour, count, shape or place."""
    text: str
    answer: str


def questions(scene: Scene) -> tuple[Question, ...]:
    """Return all questions about a scene; the colour of a shape only if the shape is unique.

    Without count questions if all scenes have the same number of things: the answer would not need the picture.
    """
    shapes = Counter(thing.shape for thing in scene.things)
    all_questions = [Question("colour", "what colour is the ground?", scene.ground)]
    if len({*scene.config.counts}) > 1:
        all_questions.append(Question("count", "how many things are there?", str(len(scene.things))))
        for shape, number in shapes.items():
            all_questions.append(Question("count", f"how many {plural(shape)} are there?", str(number)))
    for thing in scene.things:
        if shapes[thing.shape] == 1:
            all_questions.append(Question("colour", f"what colour is the {thing.shape}?", thing.colour))
        all_questions.append(Question("shape", f"what shape is the {thing.colour} thing?", thing.shape))
        all_questions.append(Question("place", f"where is the {colour_shape(thing)}?", thing.place))
    return tuple(all_questions)


def plural(shape: str) -> str:
    """Return the plural of a shape."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


@dataclass(frozen=True)
class Edit:
    """Edit instruction, with the scene before and after."""

    instruction: str
    before: Scene
    after: Scene


def edit(scene: Scene, choices: Choices) -> Edit:
    """Return a random edit: recolour a thing or the ground, remove a thing, or add one.

    An edit of a training scene never gives a held-out scene.
    """
    edits: list[Callable[[Scene, Choices], Edit]] = [_recolour, _recolour_ground]
    if len(scene.things) > 1:
        edits.append(_remove)
    if free_cells(scene):
        edits.append(_add)
    return choices.choose(edits)(scene, choices)


def _recolour(scene: Scene, choices: Choices) -> Edit:
    thing = choices.choose(scene.things)

    def changed(colour: str) -> Scene:
        things = (replace(other, colour=colour) if other is thing else other for other in scene.things)
        return replace(scene, things=tuple(things))

    colour = choices.choose([colour for colour in _new_colours(scene) if _is_allowed(changed(colour))])
    template = choices.choose(("make the {} {}", "paint the {} {}", "turn the {} {}"))
    return Edit(template.format(colour_shape(thing), colour), scene, changed(colour))


def _recolour_ground(scene: Scene, choices: Choices) -> Edit:
    colour = choices.choose([colour for colour in _new_colours(scene) if _is_allowed(replace(scene, ground=colour))])
    template = choices.choose(("make the ground {}", "change the ground to {}"))
    return Edit(template.format(colour), scene, replace(scene, ground=colour))


def _remove(scene: Scene, choices: Choices) -> Edit:
    thing = choices.choose(scene.things)
    template = choices.choose(("remove the {}", "take the {} away"))
    after = tuple(other for other in scene.things if other is not thing)
    return Edit(template.format(colour_shape(thing)), scene, replace(scene, things=after))


def _add(scene: Scene, choices: Choices) -> Edit:
    size, cell = choices.choose(free_cells(scene))
    thing = Thing(choices.choose(_new_colours(scene)), choices.choose(tuple(SHAPES)), size, cell)
    template = choices.choose(("add {} {}", "put {} {}"))
    after = in_order((*scene.things, thing))
    return Edit(
        template.format(with_article(size_colour_shape(thing)), position_phrase(thing)),
        scene,
        replace(scene, things=after),
    )


def free_cells(scene: Scene) -> list[tuple[str, Cell]]:
    """Return sizes and cells of things that can be added; none if the scene has `max_things`."""
    if len(scene.things) == scene.config.max_things:
        return []
    sizes, cells = (tuple(getattr(thing, name) for thing in scene.things) for name in ("size", "cell"))
    return [(size, chosen[-1]) for size in SIZES for chosen in layouts((*sizes, size)) if chosen[:-1] == cells]


def _new_colours(scene: Scene) -> list[str]:
    used = {scene.ground, *(thing.colour for thing in scene.things)}
    return [colour for colour in scene.config.colours if colour not in used]


def _is_allowed(scene: Scene) -> bool:
    """Return whether a scene is a valid result of an edit: a held-out scene is not, for training scenes."""
    return scene.config.held_out is not False or not is_held_out(scene)
