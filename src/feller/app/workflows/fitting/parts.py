"""What documents need: codes of their pictures, and vectors by which they are found."""

from dataclasses import replace
from functools import partial

from feller.app.reporter import Tell
from feller.app.workflows.fitting.auxiliary_networks import Making
from feller.data.batches import batches
from feller.data.documents.documents_modality import Documents, all_pictures
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.recipes.parts import DocumentParts
from feller.models.spec import Description
from feller.networks.sequence.bi_encoder import BiEncoderNetwork
from feller.paths import Codes
from feller.training.objectives.contrastive import Contrastive
from feller.training.objectives.reconstruction import Reconstruction


def make_document_parts(
    making: Making, parts: DocumentParts, kind: Documents, about: Description, data: Dataset, tell: Tell
) -> tuple[Description, Dataset]:
    """Give the networks of documents their weights: those of the run, or new ones that are learned here.

    Returns:
        What the model is, with hashes of these weights, as the run holds it by now; and the data, with the codes of
        their pictures.

    Raises:
        InputError: If a file of the run is damaged, another's, or lost after the model began to learn.
    """
    making.check([*kind.modules])
    if "tokenizer" in kind.modules:
        learned = partial(_tokenizer, making, parts, kind, data, tell)
        about = making.made("tokenizer", kind.modules["tokenizer"], about, learned)
    rows, columns = kind.tokenizer.grid
    tell.say(f"each picture is {rows} x {columns} codes out of {kind.tokenizer.count:,}")
    coded = replace(data, values=kind.coded(data.values))
    if "vectors" in kind.modules:
        learned = partial(_vectors, making, parts, kind, coded, tell)
        about = making.made("vectors", kind.modules["vectors"], about, learned)
    return about, coded


def _tokenizer(making: Making, parts: DocumentParts, kind: Documents, data: Dataset, tell: Tell) -> None:
    """Train what writes pictures as codes on all pictures of the documents."""
    pictures, name = Images(kind.height, kind.width, kind.channels), "tokenizer"
    feed = batches(Dataset(all_pictures(data.values), {}, pictures), parts.tokenizer.batch, making.draws(name))
    objective = Reconstruction(Codes(), pictures.space())
    making.learn(name, objective, feed, kind.modules[name], parts.tokenizer, tell)


def _vectors(making: Making, parts: DocumentParts, kind: Documents, data: Dataset, tell: Tell) -> None:
    """Count the pieces of texts, then train what finds documents to tell which picture belongs to which text."""
    network, name = kind.modules["vectors"], "vectors"
    if not isinstance(network, BiEncoderNetwork):
        raise TypeError(f"expected a bi-encoder, got {type(network).__name__}")
    network.texts.count(kind.encode(data.values))
    objective = Contrastive(kind.space(), kind.symbols).beside(data)
    feed = batches(data, parts.vectors.batch, making.draws(name))
    making.learn(name, objective, feed, network, parts.vectors, tell)
