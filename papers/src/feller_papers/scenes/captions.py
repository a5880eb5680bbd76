"""Captions of a scene, in several ways, and questions about it that have one answer."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from feller_papers.scenes.drawing import SIZES, Cell, Scene, Thing, in_order, is_kept, layouts
from feller_papers.scenes.shapes import SHAPES, Picks


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


@dataclass(frozen=True)
class Edit:
    """What is asked for, and what it does."""

    instruction: str
    before: Scene
    after: Scene


def edit(scene: Scene, pick: Picks) -> Edit:
    """Change a scene: recolour a thing or the ground, remove a thing, or add one, where that can be.

    Where nothing is learned of some scenes, colours do not change to those of one of these.
    """
    ways: list[Callable[[Scene, Picks], Edit]] = [_recolour, _reground]
    if len(scene.things) > 1:
        ways.append(_remove)
    if room(scene):
        ways.append(_add)
    return pick.one(ways)(scene, pick)


def _recolour(scene: Scene, pick: Picks) -> Edit:
    thing = pick.one(scene.things)

    def changed(colour: str) -> Scene:
        things = (replace(one, colour=colour) if one is thing else one for one in scene.things)
        return replace(scene, things=tuple(things))

    colour = pick.one([colour for colour in _new_colours(scene) if _may_show(changed(colour))])
    say = pick.one(("make the {} {}", "paint the {} {}", "turn the {} {}"))
    return Edit(say.format(plain(thing), colour), scene, changed(colour))


def _reground(scene: Scene, pick: Picks) -> Edit:
    colour = pick.one([colour for colour in _new_colours(scene) if _may_show(replace(scene, ground=colour))])
    say = pick.one(("make the ground {}", "change the ground to {}"))
    return Edit(say.format(colour), scene, replace(scene, ground=colour))


def _remove(scene: Scene, pick: Picks) -> Edit:
    thing = pick.one(scene.things)
    say = pick.one(("remove the {}", "take the {} away"))
    after = tuple(one for one in scene.things if one is not thing)
    return Edit(say.format(plain(thing)), scene, replace(scene, things=after))


def _add(scene: Scene, pick: Picks) -> Edit:
    size, cell = pick.one(room(scene))
    thing = Thing(pick.one(_new_colours(scene)), pick.one(tuple(SHAPES)), size, cell)
    say = pick.one(("add {} {}", "put {} {}"))
    after = in_order((*scene.things, thing))
    return Edit(say.format(a(sized(thing)), placed(thing)), scene, replace(scene, things=after))


def room(scene: Scene) -> list[tuple[str, Cell]]:
    """Return where there is room for another thing, with its size; nowhere if there are as many as there may be."""
    if len(scene.things) == scene.of.most:
        return []
    sizes, cells = (tuple(getattr(one, name) for one in scene.things) for name in ("size", "cell"))
    return [(size, chosen[-1]) for size in SIZES for chosen in layouts((*sizes, size)) if chosen[:-1] == cells]


def _new_colours(scene: Scene) -> list[str]:
    used = {scene.ground, *(thing.colour for thing in scene.things)}
    return [colour for colour in scene.of.colours if colour not in used]


def _may_show(scene: Scene) -> bool:
    """Tell whether a scene may come of a change: none that is kept, of one that is not."""
    return scene.of.kept is not False or not is_kept(scene)
