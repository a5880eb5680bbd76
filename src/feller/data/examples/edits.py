"""Changes of scenes: an instruction, and the scenes before and after it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from feller.data.examples.captions import a, placed, plain, sized
from feller.data.examples.picks import Picks
from feller.data.examples.scenes import SIZES, Cell, Scene, Thing, in_order, is_kept, layouts
from feller.data.examples.shapes import SHAPES


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
