"""Instruction documents: instruction, input and output."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.documents.prompt import ANSWER, EDIT, QUESTION, STOP
from feller_papers.scenes.captions import caption, colour_shape, details, edit, questions
from feller_papers.scenes.creatures import Creature, View, invent, render_creature, views
from feller_papers.scenes.documents import Answer, Document, Item, Picture
from feller_papers.scenes.drawing import (
    ALL,
    SIDE,
    SMALL,
    SMALL_HELD_OUT,
    Scene,
    SceneConfig,
    Thing,
    check_side,
    draw_lettering,
    draw_scenes,
    edges,
    render,
    render_letters,
    segmentation,
)
from feller_papers.scenes.shapes import Choices, make_choices

DocumentWriter = Callable[[Scene, int, Choices], tuple[Item, ...]]
"""(scene, side of pictures, choices) -> items of a document."""


def _edit(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    change = edit(scene, choices)
    before, after = Picture(render(change.before, side)), Picture(render(change.after, side))
    return EDIT, before, change.instruction, after


def _edges(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    picture = render(scene, side)
    instruction = "Make high quality image from edge features"
    return instruction, Picture(edges(picture)), caption(scene, choices), Picture(picture)


def _segmentation(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    instruction = "Make high quality image from a segmentation map"
    return instruction, Picture(segmentation(scene, side)), caption(scene, choices), Picture(render(scene, side))


def _grounding(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    places = ", ".join(f"{colour_shape(thing)} at {location(thing, side)}" for thing in scene.things)
    text = f"Generate high quality image of {caption(scene, choices)} with segmentations {places}"
    return text, Picture(render(scene, side))


def location(thing: Thing, side: int) -> str:
    """Return the first and the last pixel, x and y, of a bounding box."""
    left, top, right, bottom = thing.box(side)
    return f"({left}, {top}) -> ({right - 1}, {bottom - 1})"


def _letters(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    word, picture = _word(scene, side, choices)
    return f'draw "{word}"', picture


def _word(scene: Scene, side: int, choices: Choices) -> tuple[str, Picture]:
    lettering = draw_lettering(choices, scene.config)
    return lettering.word, Picture(render_letters(lettering, side))


def _caption(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    return "Describe the given picture. ", Answer(caption(scene, choices)), Picture(render(scene, side))


def _details(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    return "Describe the given picture in very detail. ", Answer(details(scene)), Picture(render(scene, side))


def _question(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    """Return a question document; categories, and answers within a category, are sampled uniformly."""
    candidates = questions(scene)
    category = choices.choose(sorted({question.category for question in candidates}))
    answer = choices.choose(sorted({question.answer for question in candidates if question.category == category}))
    question = choices.choose(
        [question for question in candidates if (question.category, question.answer) == (category, answer)]
    )
    between, end = choices.choose(((ANSWER, STOP), ("\n", ""), (" The answer is ", ".")))
    text = f"{QUESTION}{question.text}{between}"
    return text, Answer(question.answer), *((end,) if end else ()), Picture(render(scene, side))


TASKS: dict[str, DocumentWriter] = {
    "edit": _edit,
    "edges": _edges,
    "segmentation": _segmentation,
    "grounding": _grounding,
    "letters": _letters,
    "caption": _caption,
    "details": _details,
    "question": _question,
}
"""Writer of each task's documents."""


def instructions(n: int, rng: Rng, side: int = SIDE, config: SceneConfig = ALL) -> list[Document]:
    """Return n instruction documents about random scenes, cycling through the tasks.

    Raises:
        UsageError: If the side is not a multiple of 16.
    """
    names = list(TASKS)
    examples = zip(draw_scenes(n, rng, config), make_choices(n, "lesson", rng), strict=True)
    return [
        Document(TASKS[name](scene, side, choices), name)
        for name, (scene, choices) in ((names[i % len(names)], example) for i, example in enumerate(examples))
    ]


def drawing_pairs(n: int, rng: Rng, side: int = SIDE, config: SceneConfig = ALL) -> list[Document]:
    """Return n captioned edge maps, segmentation maps and words, in turn.

    Raises:
        UsageError: If the side is not a multiple of 16.
    """
    writers = (_edges_pair, _segmentation_pair, _letters_pair)
    examples = zip(draw_scenes(n, rng, config), make_choices(n, "drawing", rng), strict=True)
    return [Document(writers[i % len(writers)](scene, side, choices)) for i, (scene, choices) in enumerate(examples)]


def _edges_pair(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    return f"edges of {caption(scene, choices)}", Picture(edges(render(scene, side)))


def _segmentation_pair(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    return f"segmentation map of {caption(scene, choices)}", Picture(segmentation(scene, side))


def _letters_pair(scene: Scene, side: int, choices: Choices) -> tuple[Item, ...]:
    word, picture = _word(scene, side, choices)
    return f'the letters "{word}"', picture


def scene_pairs(n: int, rng: Rng, side: int = SIDE, config: SceneConfig = ALL) -> tuple[list[Scene], list[Document]]:
    """Return n random scenes, and their documents of a caption and a picture.

    Raises:
        UsageError: If the side is not a multiple of 16.
    """
    scenes = draw_scenes(n, rng, config)
    examples = zip(scenes, make_choices(n, "caption", rng), strict=True)
    return scenes, [Document((caption(scene, choices), Picture(render(scene, side)))) for scene, choices in examples]


MIN_PAIRS = 20
"""Smallest number of training pairs."""
PERIOD = 8
"""Length of the repeating block of pairs: scenes, creatures, then one map or word."""
CREATURES_PER_PERIOD = 4
"""Creatures per block."""
TRAIN_VIEWS, TEST_VIEWS = 4, 2
"""Views of each creature in the pairs or the memory, and held-out views."""
HEADS_PER_TAIL = 10
"""Head creatures per tail creature."""
TRAIN_PER_HELD_OUT = 10
"""Training documents per held-out document."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """All documents by folder, with the scenes and creatures in them.

    Held-out scenes and words are in no other folder; their maps, which do not show all colours, may be.
    """

    documents: dict[str, list[Document]]
    """pairs, instructions, memory, tail, pairs-held-out and instructions-held-out."""
    scenes: dict[str, list[Scene]]
    """Scenes of pairs and pairs-held-out."""
    head: list[Creature]
    """Creatures in the pairs."""
    tail: list[Creature]
    """Creatures in neither pairs nor instructions."""
    tail_views: list[View]
    """Views in `tail`, which the memory does not have."""


def demonstration(n: int, rng: Rng, side: int = SIDE) -> Demonstration:
    """Return n training pairs, half of them creatures, n instructions, the memory and the held-out sets.

    Raises:
        UsageError: If n is below 20, or the side is not a multiple of 16.
    """
    if n < MIN_PAIRS:
        raise UsageError(f"{MIN_PAIRS} pairs or more", n, "8000 are usual")
    check_side(side)
    num_head = -(-n * CREATURES_PER_PERIOD // (PERIOD * TRAIN_VIEWS))
    num_tail = max(1, num_head // HEADS_PER_TAIL)
    creatures = invent(num_tail + num_head, rng.fold_in("creatures"))
    tail, head = creatures[:num_tail], creatures[num_tail:]  # tail first: its first creature is the same for every n
    creature_views = {
        creature.name: views(creature, TRAIN_VIEWS + TEST_VIEWS, rng.fold_in("views", creature.name))
        for creature in creatures
    }
    scenes, pairs = {}, {}
    for part, count, first_view, config in (
        ("pairs", n, 0, SMALL),
        ("pairs-held-out", n // TRAIN_PER_HELD_OUT, TRAIN_VIEWS, SMALL_HELD_OUT),
    ):
        num_creature_views = CREATURES_PER_PERIOD * (count // PERIOD)
        creature_documents = [
            view_document(creature_views[head[i % num_head].name][first_view + i // num_head], side)
            for i in range(num_creature_views)
        ]
        others = drawing_pairs(count // PERIOD, rng.fold_in(part, "drawings"), side, config)
        scenes[part], scene_documents = scene_pairs(
            count - len(creature_documents) - len(others), rng.fold_in(part), side, config
        )
        pairs[part] = _interleave(scene_documents, creature_documents, others)
    memory_views = [view for creature in tail for view in creature_views[creature.name][:TRAIN_VIEWS]]
    tail_views = [view for creature in tail for view in creature_views[creature.name][TRAIN_VIEWS:]]
    return Demonstration(
        {
            "pairs": pairs["pairs"],
            "instructions": instructions(n, rng.fold_in("instructions"), side, SMALL),
            "memory": [view_document(view, side) for view in memory_views],
            "tail": [view_document(view, side) for view in tail_views],
            "pairs-held-out": pairs["pairs-held-out"],
            "instructions-held-out": instructions(
                n // TRAIN_PER_HELD_OUT, rng.fold_in("instructions-held-out"), side, SMALL_HELD_OUT
            ),
        },
        scenes,
        head,
        tail,
        tail_views,
    )


def view_document(view: View, side: int) -> Document:
    """Return the document of a view: caption and picture."""
    return Document((view.caption(), Picture(render_creature(view, side))))


def _interleave(scenes: list[Document], creatures: list[Document], others: list[Document]) -> list[Document]:
    """Return documents in blocks of scenes, creatures and one other."""
    mixed, scene_iter, creature_iter = [], iter(scenes), iter(creatures)
    for other in others:
        mixed += [
            *islice(scene_iter, PERIOD - CREATURES_PER_PERIOD - 1),
            *islice(creature_iter, CREATURES_PER_PERIOD),
            other,
        ]
    return mixed + list(scene_iter)
