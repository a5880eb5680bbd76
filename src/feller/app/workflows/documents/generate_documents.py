"""Generate documents from a request and write them."""

import itertools
import pathlib
import shlex
import sys
import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.app.config import DocumentOptions, SampleConfig
from feller.app.modalities.documents import reader, require_documents
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.documents.build_datastore import library
from feller.app.workflows.documents.document_request import Wanted, anything, by_edit, by_mask, by_prompt, by_question
from feller.app.workflows.sampler import choice_of
from feller.core.errors import UsageError, check_number
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.documents.modality import Documents, Values
from feller.data.documents.token_layout import MaskItem
from feller.data.modality import Dataset
from feller.models.model import Model, load_model
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.decoding_goals import InfillGoal
from feller.sampling.autoregressive.document_decoding import SamplingSpec, generate, rank_candidates
from feller.sampling.autoregressive.masked_spans import restore_spans
from feller.sampling.autoregressive.token_guidance import (
    ClassifierFreeGuidance,
    ContrastiveDecoding,
    DualGuidance,
    NoGuidance,
    TokenGuidance,
)
from feller.sampling.retrieval.retriever import INFERENCE_RETRIEVER, IndexedDatastore, retrieved_context
from feller.training.engine import get_engine

DOCUMENTS = 2
"""That stand in front of a prompt, where there is a memory."""
SHARP = TokenSampler(0.5)
"""How words are drawn: who asks a question wants one answer, rather than one of all that might be said."""
ALPHA = 0.1
"""Of contrastive decoding, where it is not said."""
PLAUSIBLE = 0.1
"""Of the likeliest symbol's probability, what another needs to be drawn with guidance."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How what is asked for is drawn."""

    guidance: float = 1.0
    """By the text, where a picture is drawn: 1 is plain."""
    picture_guidance: float | None = None
    """By the picture that is edited; None where text and pictures are not told apart."""
    plausible: float = PLAUSIBLE
    """Guided by more than 1, symbols may come that are so many times as likely as the likeliest; 0 lets all come."""
    contrast: tuple[int, float] | None = None
    """k and alpha of contrastive decoding; with guidance beside it, every other document is drawn so."""
    choice: TokenSampler | None = None
    """How symbols are drawn; by default pictures from the network's own law, and words from a sharper one."""
    best_of: int = 1
    """Draw so many for each and keep the one whose picture and text are nearest."""
    documents: int = DOCUMENTS
    """From the memory, in front."""

    def __post_init__(self) -> None:
        check_number("best_of", self.best_of, ge=1, remedy="1 keeps what is drawn")
        check_number("plausible", self.plausible, ge=0, le=1)
        check_number("documents", self.documents, ge=0)

    def guides(self, *, of_picture: bool) -> tuple[TokenGuidance, ...]:
        """Return the ways in which documents are drawn by turns.

        Raises:
            UsageError: If what is drawn is no picture, and guidance by its text is asked for.
        """
        guided = self.guidance != 1.0 or self.picture_guidance is not None
        plausible = self.plausible if max(self.guidance, self.picture_guidance or 1.0) > 1 else 0.0
        if not of_picture and (guided or self.contrast is not None):
            raise UsageError("guidance and contrast are of pictures drawn from a text", remedy="Leave them out")
        found: list[TokenGuidance] = []
        if self.picture_guidance is not None:
            found.append(DualGuidance(float(self.picture_guidance), float(self.guidance), plausible))
        elif guided:
            found.append(ClassifierFreeGuidance(self.guidance, plausible))
        if self.contrast is not None:
            found.append(ContrastiveDecoding(*self.contrast))
        return tuple(found) or (NoGuidance(),)


@dataclass(frozen=True, eq=False)
class Written:
    """Documents that were drawn."""

    data: Dataset
    said: tuple[str, ...]
    """The words that were filled in, of each; empty where none were."""
    front: tuple[str, ...] = ()
    """What the documents say that were looked up, the most like last."""
    pace: str = ""
    """How fast they were drawn."""
    holes: int = 0
    """Texts that were filled in, in each."""

    def lines(self, which: int) -> str:
        """Return what was said in one of them, for people: where several texts were filled in, each beside its hole."""
        return _beside_holes(self.said[which], self.holes)


def write(
    model: Model,
    wanted: Wanted,
    n: int,
    *,
    manner: Manner = Manner(),
    memory: str | None = None,
    draws: Rng = Rng(0),  # noqa: B008 - frozen
    tell: Tell = SILENT,
) -> Written:
    """Draw n documents that begin as is wanted.

    Args:
        model: Of documents.
        wanted: The prompt, and what is drawn behind it.
        n: How many.
        manner: How.
        memory: Documents to look up: a file, a folder, or what was built of them.
        draws: Source of all randomness.
        tell: Hears how fast it goes.

    Raises:
        InputError: If the memory is damaged, empty or another's.
        UsageError: If the prompt is too long, or what is asked for makes no sense.
    """
    kind = require_documents(model)
    guides = manner.guides(of_picture=wanted.draws_picture)
    if manner.best_of > 1 and kind.vectors is None:
        raise UsageError(
            "this model was fitted without what compares texts and pictures", remedy="Leave it out", argument="best_of"
        )
    found = None if memory is None else library(kind, memory)
    streams = _streams(wanted, kind, guides)
    room = reader(model).context - len(streams[0]) - kind.symbols.picture - 2  # behind it a picture must fit
    front = _front(found, streams[0], manner.documents, room, draws)
    looked_up = tuple(words(kind, part) for part in _apart(front, kind))
    _notice(wanted, kind, tell)
    if found is not None:
        more = _front(found, streams[0], manner.documents, sys.maxsize, draws)
        tell.say(_told(looked_up, min(manner.documents, len(found.datastore)), fits=len(more) == len(front)))
    longest, context = max(map(len, streams)), reader(model).context
    if longest >= context:
        raise UsageError(f"the prompt has {longest} symbols, and the model sees {context} at once", remedy="Shorten it")
    prompts = [[torch.cat([front, stream])] * (n * manner.best_of) for stream in streams]
    tell.task("drawing")
    begun = time.monotonic()
    choice = manner.choice or (SHARP if wanted.draws_words else TokenSampler())
    ways = tuple(SamplingSpec(guide, choice) for guide in guides)
    drawn = generate(reader(model), prompts, wanted.planned(kind), draws.fold_in("documents"), specs=ways)
    tell.done()
    seconds, symbols = time.monotonic() - begun, sum(map(len, drawn))
    speed = symbols / max(seconds, 1e-9)
    pace = f"{len(drawn):,} drawn, {symbols:,} symbols in {seconds:.3g} s, {speed:,.0f} a second"
    rows = [torch.cat([streams[0], part.cpu()]) for part in drawn]
    data, fills = Dataset(wanted.keeping(kind, decoded(kind, rows)), {}, kind), wanted.prompt.has_holes
    said = [words(kind, part) for part in drawn] if fills else []
    if manner.best_of > 1:
        kept = _best(kind, data.values, n, manner.best_of)
        data, said = data.subset(kept), [said[i] for i in kept.tolist()] if fills else []
    holes = sum(isinstance(item, MaskItem) for item in wanted.prompt.items)
    return Written(data, tuple(said), looked_up, pace, holes)


def decoded(kind: Documents, rows: list[Int64[Tensor, " _"]]) -> Values:
    """Return the texts and pictures of rows whose holes are filled."""
    symbols = kind.symbols
    plain = [torch.from_numpy(restore_spans(row.cpu().numpy(), symbols)) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(plain, batch_first=True, padding_value=symbols.pad)
    return kind.decode(padded)


def words(kind: Documents, drawn: Int64[Tensor, " m"]) -> str:
    """Return the words that fill the holes of a document, one hole a line."""
    parts: list[list[int]] = [[]]
    for token in drawn.tolist():
        if token < kind.symbols.text:
            parts[-1].append(token)
        elif parts[-1]:
            parts.append([])
    return "\n".join(kind.vocabulary.decode(part).strip() for part in parts if part)


def _beside_holes(said: str, holes: int) -> str:
    """Put the hole that it fills in front of each line, where there are several."""
    lines = said.split("\n")
    if holes < 2 or len(lines) != holes:  # a text may have lines of its own
        return said
    return "\n".join(f"<mask> {i}: {line}" for i, line in enumerate(lines, 1))


def _notice(wanted: Wanted, kind: Documents, tell: Tell) -> None:
    """Say where pictures lose their sides."""
    cut = sum(shown.shape[0] * kind.width != shown.shape[1] * kind.height for shown in wanted.prompt.pictures)
    if cut:
        tell.say(f"{cut} of {len(wanted.prompt.pictures)} pictures cut to the middle, {kind.width}x{kind.height}")


def _told(looked_up: tuple[str, ...], most: int, *, fits: bool) -> str:
    """Say what was looked up, and why it is less than was asked for."""
    why = "all others are too like these" if fits else "there is no room for more"
    less = f" ({len(looked_up)} of {most}: {why})"
    return f"looked up: {'; '.join(map(repr, looked_up)) or 'nothing'}{less if len(looked_up) < most else ''}"


def _streams(wanted: Wanted, kind: Documents, guides: tuple[TokenGuidance, ...]) -> list[Int64[Tensor, " _"]]:
    """Return the prompt of each stream that the guides read."""
    most = max(guide.num_streams for guide in guides)
    makers = (wanted.tokens, wanted.without_text, wanted.without_all)
    return [make(kind) for make in makers[:most]]


def _front(
    found: IndexedDatastore | None, prompt: Int64[Tensor, " l"], count: int, room: int, draws: Rng
) -> Int64[Tensor, " m"]:
    """Return what stands in front of a prompt, where there is room for so many symbols."""
    if found is None or not count:
        return prompt[:0]
    how = replace(INFERENCE_RETRIEVER, by_text=count, by_picture=count)  # no more than are wanted: the most like
    (front,) = retrieved_context(found, prompt[None], count, [room], draws.fold_in("memory"), how)
    return front


def _apart(front: Int64[Tensor, " m"], kind: Documents) -> list[Int64[Tensor, " _"]]:
    """Return the documents that stand one after the other."""
    first = (front == kind.symbols.eos).nonzero()[:, 0].tolist()
    return [front[a:b] for a, b in itertools.pairwise([*first, len(front)])]


def _best(kind: Documents, values: Values, n: int, of: int) -> Int64[Tensor, " n"]:
    """Return the numbers of the best of several documents each: those whose texts and pictures point the same way."""
    likeness = similarities(kind, values)
    index = [[*range(i * of, (i + 1) * of)] for i in range(n)]
    kept = rank_candidates(index, lambda prompt, some: likeness[torch.tensor(list(some))])
    return torch.tensor([one for (one,) in kept])


def similarities(kind: Documents, values: Values) -> Tensor:
    """Return how near the text and the picture of each document are, by what finds documents: at most 1."""
    if kind.vectors is None:
        raise UsageError("this model was fitted without what compares texts and pictures")
    seen = kind.vectors(kind.encode(values))
    return (seen.text * seen.picture).sum(1).double()


def documents(run: Run, config: SampleConfig, *, tell: Tell = SILENT) -> tuple[Written, pathlib.Path]:
    """Draw documents and write them.

    Args:
        run: Holds the model.
        config: What is asked for.
        tell: Hears how it goes.

    Returns:
        The documents, and where they are.

    Raises:
        InputError: If run, pictures or memory are not what they must be, or the disk is full.
        UsageError: If an argument is wrong.
    """
    asked, n, manner = config.document, config.n, manner_of(config)
    if n is not None and n < 1:
        raise UsageError("at least 1", n, argument="n")
    wanted = _wanted(asked)
    if wanted is None and asked.memory is not None:
        raise UsageError(
            "a --memory is looked up for what is asked, and nothing is", remedy="Give a --prompt, or leave it out"
        )
    model = load_model(run)
    model.network.to(get_engine().device)
    kind, place = require_documents(model), run.output_path(config.output.out)
    kind.check_place(place)
    wanted = wanted or anything(reader(model).context)
    if (asked.edit or asked.ask) and not kind.tasks:
        tell.say("this model has learned no tasks, so this is a guess; train it on examples of them: fit --start-from")
    if asked.prompt and kind.tasks and wanted.prompt.has_gap:
        tell.say("this model has learned tasks, and may have forgotten how to fill gaps inside texts")
    draws, n = Rng(config.seed).fold_in("sample"), n or (1 if isinstance(wanted.plan, InfillGoal) else 9)
    drawn = write(model, wanted, n, manner=manner, memory=asked.memory, draws=draws, tell=tell)
    kind.write(drawn.data.values, drawn.data.given, place)
    return drawn, place


def _wanted(options: DocumentOptions) -> Wanted | None:
    """Return the one thing that is asked for; None for anything."""
    prompt, mask, edit, ask = options.prompt, options.mask, options.edit, options.ask
    asked = [flag for flag, value in (("--prompt", prompt), ("--edit", edit), ("--ask", ask)) if value]
    if len(asked) > 1:
        raise UsageError(f"{asked[0]} or {asked[1]}", "both", "Choose one", argument=asked[0].lstrip("-"))
    for flag, pair in (("edit", edit), ("ask", ask)):
        if pair and len(pair) != 2:
            words = 'a picture and words in quotes, such as cat.png "is it blue?"'
            raise UsageError(words, shlex.join(pair), argument=flag)
    if mask is not None:
        if prompt is None:
            raise UsageError(
                "says which part of the picture of a --prompt is drawn anew", remedy="Give one", argument="mask"
            )
        return by_mask(prompt, mask)
    if edit:
        return by_edit(edit[0], edit[1])
    if ask:
        return by_question(ask[0], ask[1])
    return None if prompt is None else by_prompt(prompt)


def manner_of(config: SampleConfig) -> Manner:
    """Return how documents are drawn.

    Raises:
        UsageError: If an option is named that nothing asks for.
    """
    options, sampler = config.document, config.sampler
    guidance = 1.0 if config.guidance is None else config.guidance
    if options.documents is not None and options.memory is None:
        raise UsageError("stand in front from a --memory", remedy="Name one, or leave it out", argument="documents")
    if options.picture_guidance is not None and not options.edit:
        raise UsageError("is of --edit", remedy="Leave it out", argument="picture_guidance")
    if options.plausible is not None and max(guidance, options.picture_guidance or 1.0) <= 1:
        raise UsageError("is of --guidance above 1", remedy="Name its weight, or leave it out", argument="plausible")
    return Manner(
        guidance=guidance,
        picture_guidance=options.picture_guidance,
        plausible=PLAUSIBLE if options.plausible is None else options.plausible,
        contrast=_contrast(options.contrast),
        choice=choice_of(sampler),
        best_of=1 if options.best_of is None else options.best_of,
        documents=DOCUMENTS if options.documents is None else options.documents,
    )


def _contrast(text: str | None) -> tuple[int, float] | None:
    """Return k and alpha."""
    if text is None:
        return None
    k, _, alpha = text.partition(":")
    try:
        return int(k), float(alpha or ALPHA)
    except ValueError:
        raise UsageError("K or K:ALPHA, such as 8:0.1", repr(text), argument="contrast") from None
