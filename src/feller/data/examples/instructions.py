"""Documents that teach tasks: an instruction, what it is about, and what should come of it.

An answer stands before its picture, as in the paper: hidden, it moves behind the document, where the model sees the
picture first. Source: Yu et al. 2023, "Scaling autoregressive multi-modal models", arXiv 2309.02591, table 5.
"""

from collections.abc import Callable

from feller.core.rng import Draws
from feller.data.documents.templates import ANSWER, EDIT, QUESTION, STOP
from feller.data.examples.captions import caption, details, plain, questions
from feller.data.examples.drawings import draw_lettering, edges, render_letters, segmentation
from feller.data.examples.edits import edit
from feller.data.examples.picks import Picks, picks
from feller.data.examples.scenes import ALL, SIDE, Scene, Thing, Variety, draw_scenes, render
from feller.data.examples.write_documents import Answer, Item, Picture, Written

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


def instructions(n: int, draws: Draws, side: int = SIDE, of: Variety = ALL) -> list[Written]:
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


def drawing_pairs(n: int, draws: Draws, side: int = SIDE, of: Variety = ALL) -> list[Written]:
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


def scene_pairs(n: int, draws: Draws, side: int = SIDE, of: Variety = ALL) -> tuple[list[Scene], list[Written]]:
    """Draw scenes, and write each as a caption and its picture.

    Raises:
        UsageError: If the side is no multiple of 16.
    """
    scenes = draw_scenes(n, draws, of)
    given = zip(scenes, picks(n, "caption", draws), strict=True)
    return scenes, [Written((caption(scene, pick), Picture(render(scene, side)))) for scene, pick in given]
