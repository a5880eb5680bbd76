"""Asking decoders: what documents cost, which pictures follow, and which words fill a hole."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.app.workflows.documents.document_request import MAX_TEXT_TOKENS, DocumentRequest
from feller.app.workflows.documents.generate_documents import decode_text as filled
from feller.core.rng import Rng
from feller.data.documents.prompt import Prompt
from feller.data.documents.token_layout import InfillItem, MaskItem
from feller.data.loading.raw import Item, TextItem
from feller.evaluation.document_metrics import Of, document_nlls, retrieved_prefixes
from feller.networks.sequence.gpt import GPTNetwork
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.decoding_goals import ImageGoal as OnePicture
from feller.sampling.autoregressive.decoding_goals import InfillGoal
from feller.sampling.autoregressive.document_decoding import SamplingSpec, generate
from feller.sampling.autoregressive.document_grammar import SymbolKind
from feller.sampling.retrieval.retriever import Retriever, retrieved_context
from feller_papers.cm3leon.world import BY_WORDS, World, items
from feller_papers.scenes.documents import Picture, Written

TOP_P = SamplingSpec(token_sampler=TokenSampler(top_p=0.9))
"""The usual way to draw."""
AT_ONCE = 128
"""Rows that are drawn together."""


def nats(
    network: GPTNetwork,
    it: World,
    rows: Int64[Tensor, "n l"],
    draws: Rng,
    *,
    count: int = 0,
    how: Retriever = BY_WORDS,
    of: Of | None = None,
) -> Float64[Tensor, " n"]:
    """Return what a code of each document costs on average, behind so many others.

    Args:
        network: Is asked.
        it: Holds what stands in front.
        rows: Documents.
        draws: Source of all that is random.
        count: Documents in front.
        how: They are found.
        of: What is counted; by default codes of pictures.
    """
    none = [rows.new_empty(0)] * len(rows)
    front = retrieved_prefixes(it.library, rows, count, network.context, draws, how) if count else none
    total, symbols = document_nlls(network, rows, front, it.kind.symbols, of or it.kind.symbols.is_code)
    return total / symbols


def to_draw(document: Written) -> DocumentRequest:
    """Ask for the last picture of a document."""
    parts, pictures = items(document)
    return DocumentRequest(Prompt(tuple(parts[:-1]), tuple(pictures[:-1])), OnePicture())


def to_say(document: Written) -> tuple[DocumentRequest, str]:
    """Ask for the answer in a document, or else for its first text, and return both that and what is right."""
    parts, pictures = items(document)
    marked = [part for part in parts if isinstance(part, TextItem) and part.is_answer]
    hidden = (marked or [part for part in parts if isinstance(part, TextItem)])[0]
    asked: tuple[Item | MaskItem | InfillItem, ...] = tuple(MaskItem() if part is hidden else part for part in parts)
    return DocumentRequest(
        Prompt((*asked, InfillItem()), tuple(pictures)), InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,))
    ), hidden.text


def with_picture(document: Written, other: Written) -> Written:
    """Return a document with the last picture of another in the place of its own."""
    last = other.pictures()[-1]
    return Written(tuple(Picture(last) if isinstance(item, Picture) else item for item in document.items))


def pictures(
    network: GPTNetwork,
    it: World,
    documents: Sequence[Written],
    draws: Rng,
    *,
    ways: Sequence[SamplingSpec] = (SamplingSpec(),),
    count: int = 0,
) -> UInt8[Tensor, "n 3 h w"]:
    """Draw the last picture of each document.

    Args:
        network: Draws.
        it: Holds what stands in front.
        documents: Begin so.
        draws: Source of all randomness.
        ways: Document i is drawn in way i modulo their number.
        count: Documents in front, found by the words before the picture.
    """
    kind, wanted = it.kind, [to_draw(one) for one in documents]
    streams = [[one.tokens(kind) for one in wanted]]
    if max(way.guidance.num_streams for way in ways) > 1:
        streams.append([one.without_text(kind) for one in wanted])
    if count:
        asked = pad_sequence(streams[0], batch_first=True, padding_value=kind.symbols.pad)
        rooms = [network.context - len(row) - kind.symbols.picture - 2 for row in streams[0]]
        before = retrieved_context(it.library, asked, count, rooms, draws.fold_in("front"), BY_WORDS)
        streams = [[torch.cat(pair) for pair in zip(before, stream, strict=True)] for stream in streams]
    rows = generate(network, streams, OnePicture(), draws.fold_in("pictures"), specs=ways, batch_size=AT_ONCE)
    codes = torch.stack([row[: kind.symbols.picture] for row in rows]) - kind.symbols.text
    return kind.tokenizer.decode(codes)


def words(network: GPTNetwork, it: World, asked: Sequence[DocumentRequest], draws: Rng) -> list[str]:
    """Fill the hole of each with its likeliest words, one after the other."""
    prompts = [one.tokens(it.kind) for one in asked]
    way = SamplingSpec(token_sampler=TokenSampler(temperature=0.0))
    rows = generate(network, [prompts], asked[0].goal, draws.fold_in("words"), specs=[way], batch_size=AT_ONCE)
    return [filled(it.kind, row) for row in rows]
