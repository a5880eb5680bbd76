"""Data of the experiments: training pairs, instructions, retrieval memory, and test documents."""

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
from feller_papers.cm3leon.reading import stack_pictures
from feller_papers.cm3leon.setting import Setting
from feller_papers.scenes.creatures import Creature, View, invent, views
from feller_papers.scenes.documents import Answer, Document, Picture
from feller_papers.scenes.drawing import SMALL, SMALL_HELD_OUT, Scene
from feller_papers.scenes.instructions import instructions, scene_pairs, view_document

TRAIN_VIEWS = 4
"""Views of each creature in the training data or the memory; one more is held out."""
TILE_SIZE, MAX_TILES = 2, 1024
"""Side of a tile in pixels, and largest codebook, which these pictures do not exhaust."""
TOKENIZER = "subwords:512"
"""Text tokeniser: bytes and frequent subwords."""
TEXT_RETRIEVER = SimilarityRetriever(max_score=2.0, dedup=2.0, query_dropout=0.0, by_text=2, by_picture=0)
"""Retriever in training and evaluation: by text only, so that retrieved documents do not leak the picture; similar
captions are allowed."""


@dataclass(frozen=True, eq=False)
class HeldOutDocuments:
    """Test documents of a caption and a picture."""

    documents: tuple[Document, ...]
    rows: Int64[Tensor, "n l"]

    @property
    def pictures(self) -> UInt8[Tensor, "n 3 h w"]:
        """Pictures of the documents."""
        return stack_pictures([picture for document in self.documents for picture in document.pictures()])

    @property
    def captions(self) -> tuple[str, ...]:
        """Captions of the documents."""
        return tuple(document.text() for document in self.documents)


@dataclass(frozen=True, eq=False)
class ExperimentData:
    """All data of a seed, and the judge."""

    modality: Documents
    """With tokenisers and document encoder."""
    pairs: Dataset
    """Training pairs of captions and pictures of creatures and scenes."""
    instructions: Dataset
    """Instruction-tuning documents."""
    retrieval_index: IndexedDatastore
    """All pairs, and the tail creatures."""
    head_views: HeldOutDocuments
    """Held-out views of head creatures."""
    tail_views: HeldOutDocuments
    """Held-out views of tail creatures."""
    tail_creatures: tuple[Creature, ...]
    test_scenes: HeldOutDocuments
    """Held-out scenes; most captions are incomplete, so that some also fit a training scene."""
    scenes: tuple[Scene, ...]
    """Scenes of `test_scenes`."""
    test_instructions: tuple[Document, ...]
    """Instructions about held-out scenes and words."""
    captions: tuple[str, ...]
    """Captions of the training scenes."""
    judge: SceneJudge
    """Trained on the training scenes."""

    def fd(self, pictures: UInt8[Tensor, "n 3 h w"]) -> float:
        """Return FD-cnn to the held-out scenes."""
        return self.judge.distance(pictures, self.test_scenes.pictures)


@functools.cache
def experiment_data(setting: Setting, seed: int) -> ExperimentData:
    """Return the data of a seed."""
    rng, side, num_test = (
        Rng(seed).fold_in("cm3leon"),
        setting.side,
        max(setting.num_test_documents, setting.num_images),
    )
    creatures = invent(setting.num_head_creatures + setting.num_tail_creatures, rng.fold_in("creatures"))
    creature_documents = [
        [view_document(view, side) for view in _views(creature, rng.fold_in("views", creature.name))]
        for creature in creatures
    ]
    head, tail = creature_documents[: setting.num_head_creatures], creature_documents[setting.num_head_creatures :]
    scenes, scene_documents = scene_pairs(setting.num_scenes, rng.fold_in("scenes"), side, SMALL)
    test_scenes, test_scene_documents = scene_pairs(num_test, rng.fold_in("kept scenes"), side, SMALL_HELD_OUT)
    train_documents = [document for documents in head for document in documents[:TRAIN_VIEWS]]
    lessons = instructions(setting.num_instructions, rng.fold_in("lessons"), side, SMALL)
    test_instructions = instructions(setting.num_test_instructions, rng.fold_in("exams"), side, SMALL_HELD_OUT)
    modality = _modality([*train_documents, *scene_documents], lessons)
    pairs = dataset_of([*train_documents, *scene_documents], modality)
    modality = train_retriever(modality, pairs, setting.retriever_steps, rng.fold_in("finder"))
    pairs = replace(pairs, modality=modality)

    def encode(documents: Sequence[Document]) -> HeldOutDocuments:
        return HeldOutDocuments(tuple(documents), modality.encode(dataset_of(documents, modality).values))

    tail_train = encode([document for documents in tail for document in documents[:TRAIN_VIEWS]])
    rows = pad_sequence(
        [*modality.encode(pairs.values), *tail_train.rows], batch_first=True, padding_value=modality.symbols.pad
    )
    return ExperimentData(
        modality=modality,
        pairs=pairs,
        instructions=dataset_of(lessons, modality),
        retrieval_index=IndexedDatastore(
            create_datastore(rows, encoder_of(modality), modality.symbols), encoder_of(modality)
        ),
        head_views=encode([documents[TRAIN_VIEWS] for documents in head[: setting.num_test_documents]]),
        tail_views=encode([documents[TRAIN_VIEWS] for documents in tail]),
        tail_creatures=tuple(creatures[setting.num_head_creatures :]),
        test_scenes=encode(test_scene_documents),
        scenes=tuple(test_scenes),
        test_instructions=tuple(test_instructions),
        captions=tuple(document.text() for document in scene_documents),
        judge=train_scene_judge(
            stack_pictures([picture for document in scene_documents for picture in document.pictures()]),
            scenes,
            rng.fold_in("judge"),
            replace(TRAINING, steps=setting.judge_steps),
        ),
    )


def _views(creature: Creature, rng: Rng) -> list[View]:
    """Return random views of a creature, some halved, each on a different ground."""
    return halve_views(views(creature, TRAIN_VIEWS + 1, rng), rng)


def raw_items(document: Document) -> tuple[list[Item], list[UInt8[np.ndarray, "h w 3"]]]:
    """Return the items of a document, and the pictures they refer to by index."""
    parts: list[Item] = []
    pictures: list[np.ndarray] = []
    for item in document.items:
        if isinstance(item, Picture):
            parts.append(ImageItem(len(pictures)))
            pictures.append(item.values)
        elif isinstance(item, Answer | str):
            parts.append(TextItem(item.text, is_answer=True) if isinstance(item, Answer) else TextItem(item))
    return parts, pictures


def raw_documents(written: Sequence[Document]) -> RawDocuments:
    """Return documents in the raw format of files."""
    documents: list[tuple[Item, ...]] = []
    pictures: list[np.ndarray] = []
    for document in written:
        parts, part_pictures = raw_items(document)
        documents.append(
            tuple(ImageItem(part.number + len(pictures)) if isinstance(part, ImageItem) else part for part in parts)
        )
        pictures += part_pictures
    return RawDocuments(
        object_array(documents), images=np.stack(pictures), tasks=tuple(document.task for document in written)
    )


def _modality(pairs: Sequence[Document], lessons: Sequence[Document]) -> Documents:
    """Return the modality of pairs and instructions, with tokenisers fitted to them."""
    whole = document_dataset(raw_documents([*pairs, *lessons]), TOKENIZER)
    modality = whole.modality
    if not isinstance(modality, Documents):
        raise TypeError(f"expected documents, got {modality.display_name}")
    codes = tiles_of(all_pictures(whole.values), TILE_SIZE, MAX_TILES)
    # only rows of pairs: an instruction document is shorter than three pairs
    modality = modality.with_image_tokenizer(codes, whole.values["rows"][: len(pairs)])
    return replace(
        modality, vectors=LearnedDocumentEncoder(BiEncoder(modality.symbols, modality.tokenizer.grid, width=16))
    )


def dataset_of(written: Sequence[Document], modality: Documents) -> Dataset:
    """Return documents as a dataset of a modality."""
    return Dataset(*modality.values_from_raw(raw_documents(written)), modality)


def encoder_of(modality: Documents) -> LearnedDocumentEncoder:
    """Return the bi-encoder of a modality."""
    if not isinstance(modality.vectors, LearnedDocumentEncoder):
        raise TypeError("expected a bi-encoder")
    return modality.vectors


def train_retriever(modality: Documents, pairs: Dataset, steps: int, rng: Rng) -> Documents:
    """Return the modality with its document encoder trained by contrastive learning of texts and pictures."""
    network = encoder_of(modality).module
    network.text_encoder.update_counts(modality.encode(pairs.values))
    training = TrainConfig(batch_size=64, lr=2e-3, lr_decay_fraction=0.7, ema_decay=0.99, steps=steps)
    learner = make_train_state(network.train().requires_grad_(True), training)
    objective = InfoNCE(modality.space(), modality.symbols).build(TrainingContext(data=pairs))
    for _ in train(
        learner, objective, batch_loader(pairs, training.batch_size, rng), training, rng=rng, engine=get_engine()
    ):
        pass
    learner.ema.copy_to(network)
    network.eval().requires_grad_(False)
    return modality


def halve_views(full_views: list[View], rng: Rng) -> list[View]:
    """Return views with the upper or the lower half hidden, each with probability 1/4."""
    index = rng.stream("parts").randint(4, (len(full_views),)).tolist()
    return [
        replace(view, part=("whole", "whole", "upper", "lower")[i]) for view, i in zip(full_views, index, strict=True)
    ]
