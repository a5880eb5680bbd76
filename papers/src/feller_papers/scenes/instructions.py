"""Documents that teach tasks: an instruction, what it is about, and what should come of it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.documents.prompt import ANSWER, EDIT, QUESTION, STOP
from feller_papers.scenes.captions import caption, details, edit, plain, questions
from feller_papers.scenes.creatures import Creature, View, invent, render_creature, views
from feller_papers.scenes.documents import Answer, Item, Picture, Written
from feller_papers.scenes.drawing import (
    ALL,
    FEW,
    FEW_HELD_OUT,
    SIDE,
    Scene,
    Thing,
    Variety,
    check_side,
    draw_lettering,
    draw_scenes,
    edges,
    render,
    render_letters,
    segmentation,
)
from feller_papers.scenes.shapes import Picks, picks

Lesson = Callable[[Scene, int, Picks], tuple[Item, ...]]
"""(scene, side of pictures, choices) -> items of a document."""


def _edit(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    change = edit(scene, pick)
    before, after = Picture(render(change.before, side)), Picture(render(change.after, side))
    return EDIT, before, change.instruction, after


def _edges(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    picture = render(scene, side)
    first = "Make high quality image from edge features"
    return first, Picture(edges(picture)), caption(scene, pick), Picture(picture)


def _segmentation(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    first = "Make high quality image from a segmentation map"
    return first, Picture(segmentation(scene, side)), caption(scene, pick), Picture(render(scene, side))


def _grounding(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    places = ", ".join(f"{plain(thing)} at {location(thing, side)}" for thing in scene.things)
    text = f"Generate high quality image of {caption(scene, pick)} with segmentations {places}"
    return text, Picture(render(scene, side))


def location(thing: Thing, side: int) -> str:
    """Write the first and the last pixel, x and y, of the box of a thing."""
    left, top, right, bottom = thing.box(side)
    return f"({left}, {top}) -> ({right - 1}, {bottom - 1})"


def _letters(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    word, picture = _word(scene, side, pick)
    return f'draw "{word}"', picture


def _word(scene: Scene, side: int, pick: Picks) -> tuple[str, Picture]:
    lettering = draw_lettering(pick, scene.of)
    return lettering.word, Picture(render_letters(lettering, side))


def _caption(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    return "Describe the given picture. ", Answer(caption(scene, pick)), Picture(render(scene, side))


def _details(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    return "Describe the given picture in very detail. ", Answer(details(scene)), Picture(render(scene, side))


def _question(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    """Ask one of the kinds of questions, each as often as any other, and so for each answer: less is told by habit."""
    asked = questions(scene)
    kind = pick.one(sorted({one.about for one in asked}))
    answer = pick.one(sorted({one.answer for one in asked if one.about == kind}))
    question = pick.one([one for one in asked if (one.about, one.answer) == (kind, answer)])
    between, end = pick.one(((ANSWER, STOP), ("\n", ""), (" The answer is ", ".")))
    text = f"{QUESTION}{question.text}{between}"
    return text, Answer(question.answer), *((end,) if end else ()), Picture(render(scene, side))


TASKS: dict[str, Lesson] = {
    "edit": _edit,
    "edges": _edges,
    "segmentation": _segmentation,
    "grounding": _grounding,
    "letters": _letters,
    "caption": _caption,
    "details": _details,
    "question": _question,
}
"""Names of the tasks, and what writes their documents."""


def instructions(n: int, draws: Rng, side: int = SIDE, of: Variety = ALL) -> list[Written]:
    """Draw documents about scenes, the tasks in turn.

    Raises:
        UsageError: If the side is no multiple of 16.
    """
    names = list(TASKS)
    given = zip(draw_scenes(n, draws, of), picks(n, "lesson", draws), strict=True)
    return [
        Written(TASKS[name](scene, side, pick), name)
        for name, (scene, pick) in ((names[i % len(names)], one) for i, one in enumerate(given))
    ]


def drawing_pairs(n: int, draws: Rng, side: int = SIDE, of: Variety = ALL) -> list[Written]:
    """Draw what instructions are about and no scene shows: edges, segmentations and letters, with captions, in turn.

    Raises:
        UsageError: If the side is no multiple of 16.
    """
    ways = (_edges_pair, _segmentation_pair, _letters_pair)
    given = zip(draw_scenes(n, draws, of), picks(n, "drawing", draws), strict=True)
    return [Written(ways[i % len(ways)](scene, side, pick)) for i, (scene, pick) in enumerate(given)]


def _edges_pair(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    return f"edges of {caption(scene, pick)}", Picture(edges(render(scene, side)))


def _segmentation_pair(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    return f"segmentation map of {caption(scene, pick)}", Picture(segmentation(scene, side))


def _letters_pair(scene: Scene, side: int, pick: Picks) -> tuple[Item, ...]:
    word, picture = _word(scene, side, pick)
    return f'the letters "{word}"', picture


def scene_pairs(n: int, draws: Rng, side: int = SIDE, of: Variety = ALL) -> tuple[list[Scene], list[Written]]:
    """Draw scenes, and write each as a caption and its picture.

    Raises:
        UsageError: If the side is no multiple of 16.
    """
    scenes = draw_scenes(n, draws, of)
    given = zip(scenes, picks(n, "caption", draws), strict=True)
    return scenes, [Written((caption(scene, pick), Picture(render(scene, side)))) for scene, pick in given]


LEAST = 20
"""Pairs to train on, at least."""
EVERY = 8
"""Of so many pairs, the first ones show scenes, then come creatures, and the last is a map or a word."""
CREATURES = 4
"""Creatures among them."""
SEEN, KEPT = 4, 2
"""Views of each creature that are in the pairs or in the memory, and others that are kept."""
TAIL = 10
"""Creatures of the head for each of the tail."""
HELD_OUT = 10
"""Training documents for each that is held out."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """All documents, by the folder that they are written to, and what they show.

    Scenes and words of those held out are in none of the others; their maps may be, which do not show all colours.
    """

    documents: dict[str, list[Written]]
    """pairs, instructions, memory, tail, pairs-held-out and instructions-held-out."""
    scenes: dict[str, list[Scene]]
    """Those of pairs and pairs-held-out, without what is between them."""
    head: list[Creature]
    """Creatures of the pairs."""
    tail: list[Creature]
    """Creatures that no pair shows, and no instruction."""
    asked: list[View]
    """What the pictures in `tail` show: creatures of the tail, as the memory has none of them."""


def demonstration(n: int, draws: Rng, side: int = SIDE) -> Demonstration:
    """Draw n pairs to train on, of which a half show creatures, n instructions, and what goes with them.

    Raises:
        UsageError: If n is below 20, or the side no multiple of 16.
    """
    if n < LEAST:
        raise UsageError(f"{LEAST} pairs or more", n, "8000 are usual")
    check_side(side)
    heads = -(-n * CREATURES // (EVERY * SEEN))
    tails = max(1, heads // TAIL)
    creatures = invent(tails + heads, draws.fold_in("creatures"))
    tail, head = creatures[:tails], creatures[tails:]  # so that the first of the tail is the same for every n
    seen = {one.name: views(one, SEEN + KEPT, draws.fold_in("views", one.name)) for one in creatures}
    scenes, pairs = {}, {}
    for part, count, first, of in (("pairs", n, 0, FEW), ("pairs-held-out", n // HELD_OUT, SEEN, FEW_HELD_OUT)):
        shown = CREATURES * (count // EVERY)
        drawn = [written_view(seen[head[i % heads].name][first + i // heads], side) for i in range(shown)]
        others = drawing_pairs(count // EVERY, draws.fold_in(part, "drawings"), side, of)
        scenes[part], written = scene_pairs(count - len(drawn) - len(others), draws.fold_in(part), side, of)
        pairs[part] = _mixed(written, drawn, others)
    known = [view for one in tail for view in seen[one.name][:SEEN]]
    asked = [view for one in tail for view in seen[one.name][SEEN:]]
    return Demonstration(
        {
            "pairs": pairs["pairs"],
            "instructions": instructions(n, draws.fold_in("instructions"), side, FEW),
            "memory": [written_view(view, side) for view in known],
            "tail": [written_view(view, side) for view in asked],
            "pairs-held-out": pairs["pairs-held-out"],
            "instructions-held-out": instructions(
                n // HELD_OUT, draws.fold_in("instructions-held-out"), side, FEW_HELD_OUT
            ),
        },
        scenes,
        head,
        tail,
        asked,
    )


def written_view(view: View, side: int) -> Written:
    """Write a view as a caption and its picture."""
    return Written((view.caption(), Picture(render_creature(view, side))))


def _mixed(scenes: list[Written], creatures: list[Written], others: list[Written]) -> list[Written]:
    """Put creatures and one of the others behind every few scenes."""
    mixed, few, many = [], iter(scenes), iter(creatures)
    for other in others:
        mixed += [*islice(few, EVERY - CREATURES - 1), *islice(many, CREATURES), other]
    return mixed + list(few)
