"""Data of the experiments on emoji: training pairs, tokenizer, retrieval memory, held-out documents and judge."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.documents.dataset import document_dataset
from feller.data.documents.modality import Documents, all_pictures
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.recipes.images import image_tokenizer
from feller.networks.codebook.conv_tokenizer import ConvTokenizer
from feller.networks.codebook.learned_image_tokenizer import LearnedImageTokenizer, load_image_tokenizer
from feller.networks.sequence.bi_encoder import BiEncoder, LearnedDocumentEncoder
from feller.sampling.retrieval.datastore import create_datastore
from feller.sampling.retrieval.retriever import IndexedDatastore
from feller_papers.beyond.emoji_judge import EmojiJudge, draw_candidates, train_emoji_judge
from feller_papers.beyond.emoji_pictures import emoji_documents, read_emoji
from feller_papers.beyond.emoji_setting import EmojiSetting
from feller_papers.cm3leon.reading import stack_pictures
from feller_papers.cm3leon.world import (
    HeldOutDocuments,
    dataset_of,
    encoder_of,
    raw_documents,
    train_retriever,
)
from feller_papers.scenes.documents import Document
from feller_papers.setting import fit_recipe

VOCABULARY = "subwords:512"
"""Text tokeniser: bytes and frequent subwords."""


@dataclass(frozen=True, eq=False)
class EmojiData:
    """All data of a seed, and the judge."""

    modality: Documents
    """With tokenisers and document encoder."""
    pairs: Dataset
    """Training documents."""
    retrieval_index: IndexedDatastore
    """Training documents, to retrieve from."""
    test: HeldOutDocuments
    """Held-out documents: one for each of some emoji, drawn apart from the training documents."""
    labels: Int64[Tensor, " n"]
    """Emoji of each held-out document."""
    candidates: Int64[Tensor, "n k"]
    """Emoji among which the judge chooses, for each held-out document."""
    captions: tuple[str, ...]
    """Captions of the training documents."""
    judge: EmojiJudge
    """Trained on pictures drawn apart from all documents."""

    def accuracy(self, pictures: UInt8[Tensor, "n 3 h w"]) -> float:
        """Return the fraction of pictures of held-out documents for which the judge chooses the right name."""
        return self.judge.accuracy(pictures, self.labels, self.candidates)


@functools.cache
def emoji_data(setting: EmojiSetting, seed: int) -> EmojiData:
    """Return the data of a seed.

    Raises:
        InputError: If the packages are missing.
    """
    if setting.folder is None:
        raise InputError("a folder with the npm packages of emoji", "none")
    rng, emoji = Rng(seed).fold_in("emoji"), read_emoji(setting.folder, setting.num_emoji)
    groups = {
        purpose: [emoji_documents(each, count, setting.side, rng.fold_in(purpose, i)) for i, each in enumerate(emoji)]
        for purpose, count in (("train", setting.num_variants), ("test", 1), ("judge", setting.num_variants))
    }
    labels = torch.linspace(0, len(emoji) - 1, min(setting.num_test, len(emoji))).round().long()
    train = [document for group in groups["train"] for document in group]
    test = [groups["test"][i][0] for i in labels.tolist()]
    modality = fit_tokenizers(train, setting.tokenizer_steps, rng.fold_in("tokenizer"))
    pairs = dataset_of(train, modality)
    pairs = replace(pairs, values=modality.with_codes(pairs.values))
    modality = train_retriever(modality, pairs, setting.retriever_steps, rng.fold_in("retriever"))
    encoder = encoder_of(modality)
    memory = create_datastore(modality.encode(pairs.values), encoder, modality.symbols)
    judged = [document for group in groups["judge"] for document in group]
    return EmojiData(
        modality=modality,
        pairs=replace(pairs, modality=modality),
        retrieval_index=IndexedDatastore(memory, encoder),
        test=HeldOutDocuments(tuple(test), modality.encode(dataset_of(test, modality).values)),
        labels=labels,
        candidates=draw_candidates(labels.tolist(), len(emoji), rng.fold_in("candidates")),
        captions=tuple(document.text() for document in train),
        judge=train_emoji_judge(
            pictures_of(judged),
            torch.arange(len(emoji)).repeat_interleave(setting.num_variants),
            setting.judge_steps,
            rng.fold_in("judge"),
        ),
    )


def fit_tokenizers(documents: Sequence[Document], steps: int, rng: Rng) -> Documents:
    """Return the modality of documents, with tokenisers fitted to texts and pictures, and a new document encoder."""
    whole = document_dataset(raw_documents(documents), VOCABULARY)
    if not isinstance(whole.modality, Documents):
        raise TypeError(f"expected documents, got {whole.modality.display_name}")
    tokenizer = fit_image_tokenizer(all_pictures(whole.values), steps, rng.seed)
    modality = whole.modality.with_image_tokenizer(tokenizer, whole.values["rows"])
    return replace(modality, vectors=LearnedDocumentEncoder(BiEncoder(modality.symbols, tokenizer.grid, width=16)))


def fit_image_tokenizer(pictures: UInt8[Tensor, "n c h w"], steps: int, seed: int) -> LearnedImageTokenizer:
    """Return a picture tokenizer, trained by the recipe `image-tokenizer`."""
    _, channels, height, width = pictures.shape
    data = Dataset(pictures, {}, Images(height, width, channels))
    recipe = image_tokenizer(data, "small")
    config = recipe.architecture
    if not isinstance(config, ConvTokenizer):
        raise TypeError(f"expected a picture tokenizer, got {config}")
    weights = fit_recipe(recipe, data, steps, seed).network.state_dict()
    return load_image_tokenizer(config, (channels, height, width), weights)


def pictures_of(documents: Sequence[Document]) -> UInt8[Tensor, "n 3 h w"]:
    """Return the pictures of all documents."""
    return stack_pictures([picture for document in documents for picture in document.pictures()])
