"""What the claims are tested on: pairs to learn from, lessons, a memory, and documents that no model has learned."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.documents.dataset import document_dataset
from feller.data.documents.modality import Documents, all_pictures
from feller.data.documents.tiles import tiles_of
from feller.data.loading.raw import ImageItem, Item, RawDocuments, TextItem, object_array
from feller.data.modality import Dataset
from feller.networks.sequence.bi_encoder import BiEncoder, LearnedDocumentEncoder
from feller.sampling.retrieval.datastore import create_datastore
from feller.sampling.retrieval.retriever import IndexedDatastore, SimilarityRetriever
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import TrainingContext
from feller.training.objectives.contrastive import InfoNCE
from feller.training.optimizer import TrainConfig
from feller_papers.cm3leon.judges import TRAINING, SceneJudge, train_scene_judge
from feller_papers.cm3leon.reading import stacked
from feller_papers.cm3leon.setting import Setting
from feller_papers.scenes.creatures import Creature, View, invent, views
from feller_papers.scenes.documents import Answer, Picture, Written
from feller_papers.scenes.drawing import FEW, FEW_HELD_OUT, Scene
from feller_papers.scenes.instructions import instructions, scene_pairs, written_view

KNOWN = 4
"""Views of each creature that are in the training data or in the memory; one more is kept."""
ACROSS, TILES = 2, 1024
"""Pixels of a side of a tile, and tiles, at most; all that these pictures have are fewer."""
WORDS = "subwords:512"
"""Vocabulary of the texts: bytes, and pieces that are frequent."""
BY_WORDS = SimilarityRetriever(max_score=2.0, dedup=2.0, query_dropout=0.0, by_text=2, by_picture=0)
"""How documents are found, in training and later: by their texts alone, so that nothing of a picture is told by what is
found for it; captions are short, and may be alike."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Documents of a caption and a picture that no model has learned."""

    documents: tuple[Written, ...]
    rows: Int64[Tensor, "n l"]

    @property
    def pictures(self) -> UInt8[Tensor, "n 3 h w"]:
        """What they show."""
        return stacked([picture for one in self.documents for picture in one.pictures()])

    @property
    def captions(self) -> tuple[str, ...]:
        """What they say."""
        return tuple(one.text() for one in self.documents)


@dataclass(frozen=True, eq=False)
class World:
    """All data of a seed, and who looks at them."""

    kind: Documents
    """With its tokeniser, and with what finds documents."""
    pairs: Dataset
    """Captions and pictures to learn from, of creatures and scenes."""
    lessons: Dataset
    """Documents that teach tasks."""
    library: IndexedDatastore
    """All pairs, and the creatures that are kept out of them."""
    heads: Kept
    """Other views of creatures of the pairs."""
    tails: Kept
    """Other views of the creatures that only the memory shows."""
    tail: tuple[Creature, ...]
    seen: Kept
    """Scenes that no pair shows; most of their captions say not all of them, and some pair says the same of another."""
    scenes: tuple[Scene, ...]
    """What these show."""
    exams: tuple[Written, ...]
    """Lessons about scenes and words that no pair and no lesson shows."""
    captions: tuple[str, ...]
    """Of the scenes among the pairs."""
    judge: SceneJudge
    """Has seen the scenes among the pairs, and no others."""

    def judged(self, pictures: UInt8[Tensor, "n 3 h w"]) -> float:
        """Return FD-cnn to the kept scenes."""
        return self.judge.distance(pictures, self.seen.pictures)


@functools.cache
def world(setting: Setting, seed: int) -> World:
    """Return the world of a seed."""
    draws, side, kept = Rng(seed).fold_in("cm3leon"), setting.side, max(setting.asked, setting.drawn)
    creatures = invent(setting.heads + setting.tails, draws.fold_in("creatures"))
    seen = [[written_view(view, side) for view in _views(one, draws.fold_in("views", one.name))] for one in creatures]
    head, tail = seen[: setting.heads], seen[setting.heads :]
    scenes, drawn = scene_pairs(setting.scenes, draws.fold_in("scenes"), side, FEW)
    kept_scenes, kept_drawn = scene_pairs(kept, draws.fold_in("kept scenes"), side, FEW_HELD_OUT)
    known = [one for some in head for one in some[:KNOWN]]
    lessons = instructions(setting.lessons, draws.fold_in("lessons"), side, FEW)
    exams = instructions(setting.exams, draws.fold_in("exams"), side, FEW_HELD_OUT)
    kind = _kind([*known, *drawn], lessons)
    pairs = _read([*known, *drawn], kind)
    kind = _taught(setting, kind, pairs, draws.fold_in("finder"))
    pairs = replace(pairs, modality=kind)

    def keep(some: Sequence[Written]) -> Kept:
        return Kept(tuple(some), kind.encode(_read(some, kind).values))

    rare = keep([one for some in tail for one in some[:KNOWN]])
    rows = pad_sequence([*kind.encode(pairs.values), *rare.rows], batch_first=True, padding_value=kind.symbols.pad)
    return World(
        kind=kind,
        pairs=pairs,
        lessons=_read(lessons, kind),
        library=IndexedDatastore(create_datastore(rows, _finder(kind), kind.symbols), _finder(kind)),
        heads=keep([some[KNOWN] for some in head[: setting.asked]]),
        tails=keep([some[KNOWN] for some in tail]),
        tail=tuple(creatures[setting.heads :]),
        seen=keep(kept_drawn),
        scenes=tuple(kept_scenes),
        exams=tuple(exams),
        captions=tuple(one.text() for one in drawn),
        judge=train_scene_judge(
            stacked([picture for one in drawn for picture in one.pictures()]),
            scenes,
            draws.fold_in("judge"),
            replace(TRAINING, steps=setting.judge),
        ),
    )


def _views(creature: Creature, draws: Rng) -> list[View]:
    """Draw views of a creature, some by halves, each on another ground: none that is kept is one of the others."""
    return some_halved(views(creature, KNOWN + 1, draws), draws)


def items(document: Written) -> tuple[list[Item], list[UInt8[np.ndarray, "h w 3"]]]:
    """Return the items of a document, and the pictures that they name by their numbers."""
    found: list[Item] = []
    pictures: list[np.ndarray] = []
    for item in document.items:
        if isinstance(item, Picture):
            found.append(ImageItem(len(pictures)))
            pictures.append(item.values)
        elif isinstance(item, Answer | str):
            found.append(TextItem(item.text, is_answer=True) if isinstance(item, Answer) else TextItem(item))
    return found, pictures


def found(written: Sequence[Written]) -> RawDocuments:
    """Return documents as if they came from a file."""
    documents: list[tuple[Item, ...]] = []
    pictures: list[np.ndarray] = []
    for one in written:
        parts, shown = items(one)
        documents.append(
            tuple(ImageItem(part.number + len(pictures)) if isinstance(part, ImageItem) else part for part in parts)
        )
        pictures += shown
    return RawDocuments(object_array(documents), images=np.stack(pictures), tasks=tuple(one.task for one in written))


def _kind(pairs: Sequence[Written], lessons: Sequence[Written]) -> Documents:
    """Return the modality of all that is learned, whose symbols later learning finds in place."""
    whole = document_dataset(found([*pairs, *lessons]), WORDS)
    kind = whole.modality
    if not isinstance(kind, Documents):
        raise TypeError(f"expected documents, got {kind.display_name}")
    codes = tiles_of(all_pictures(whole.values), ACROSS, TILES)
    kind = kind.with_image_tokenizer(codes, whole.values["rows"][: len(pairs)])  # a lesson is shorter than three pairs
    return replace(kind, vectors=LearnedDocumentEncoder(BiEncoder(kind.symbols, kind.tokenizer.grid, width=16)))


def _read(written: Sequence[Written], kind: Documents) -> Dataset:
    return Dataset(*kind.values_from_raw(found(written)), kind)


def _finder(kind: Documents) -> LearnedDocumentEncoder:
    if not isinstance(kind.vectors, LearnedDocumentEncoder):
        raise TypeError("expected a bi-encoder")
    return kind.vectors


def _taught(setting: Setting, kind: Documents, pairs: Dataset, draws: Rng) -> Documents:
    """Teach what finds documents which picture belongs to which text."""
    network = _finder(kind).module
    network.text_encoder.update_counts(kind.encode(pairs.values))
    training = TrainConfig(batch_size=64, lr=2e-3, lr_decay_fraction=0.7, ema_decay=0.99, steps=setting.finder)
    learner = make_train_state(network.train().requires_grad_(True), training)
    objective = InfoNCE(kind.space(), kind.symbols).build(TrainingContext(data=pairs))
    for _ in train(
        learner, objective, batch_loader(pairs, training.batch_size, draws), training, rng=draws, engine=get_engine()
    ):
        pass
    learner.ema.copy_to(network)
    network.eval().requires_grad_(False)
    return kind


def some_halved(shown: list[View], draws: Rng) -> list[View]:
    """Hide the upper half of one in four, and the lower of as many, so that one picture may not tell all of another."""
    which = draws.stream("parts").randint(4, (len(shown),)).tolist()
    return [replace(view, part=("whole", "whole", "upper", "lower")[i]) for view, i in zip(shown, which, strict=True)]
