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
from feller.app.modalities.documents import document_decoder, require_documents
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.documents.build_datastore import open_datastore
from feller.app.workflows.documents.document_request import (
    DocumentRequest,
    edit_request,
    inpainting_request,
    prompt_request,
    question_request,
    unconditional_request,
)
from feller.app.workflows.sampler import token_sampler_of
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
TEXT_SAMPLING = TokenSampler(0.5)
"""How words are drawn: who asks a question wants one answer, rather than one of all that might be said."""
ALPHA = 0.1
"""Of contrastive decoding, where it is not said."""
DEFAULT_MIN_P = 0.1
"""Of the likeliest symbol's probability, what another needs to be drawn with guidance."""


@dataclass(frozen=True, kw_only=True)
class DocumentSamplingConfig:
    """How what is asked for is drawn."""

    guidance: float = 1.0
    """By the text, where a picture is drawn: 1 is plain."""
    picture_guidance: float | None = None
    """By the picture that is edited; None where text and pictures are not told apart."""
    min_p: float = DEFAULT_MIN_P
    """Guided by more than 1, symbols may come that are so many times as likely as the likeliest; 0 lets all come."""
    contrast: tuple[int, float] | None = None
    """k and alpha of contrastive decoding; with guidance beside it, every other document is drawn so."""
    token_sampler: TokenSampler | None = None
    """How symbols are drawn; by default pictures from the network's own law, and words from a sharper one."""
    best_of: int = 1
    """Draw so many for each and keep the one whose picture and text are nearest."""
    documents: int = DOCUMENTS
    """From the memory, in front."""

    def __post_init__(self) -> None:
        check_number("best_of", self.best_of, ge=1, remedy="1 keeps what is drawn")
        check_number("min_p", self.min_p, ge=0, le=1)
        check_number("documents", self.documents, ge=0)

    def guidance_modes(self, *, of_picture: bool) -> tuple[TokenGuidance, ...]:
        """Return the ways in which documents are drawn by turns.

        Raises:
            UsageError: If what is drawn is no picture, and guidance by its text is asked for.
        """
        guided = self.guidance != 1.0 or self.picture_guidance is not None
        plausible = self.min_p if max(self.guidance, self.picture_guidance or 1.0) > 1 else 0.0
        if not of_picture and (guided or self.contrast is not None):
            raise UsageError("guidance and contrast are of pictures drawn from a text", remedy="Leave them out")
        modes: list[TokenGuidance] = []
        if self.picture_guidance is not None:
            modes.append(DualGuidance(float(self.picture_guidance), float(self.guidance), plausible))
        elif guided:
            modes.append(ClassifierFreeGuidance(self.guidance, plausible))
        if self.contrast is not None:
            modes.append(ContrastiveDecoding(*self.contrast))
        return tuple(modes) or (NoGuidance(),)


@dataclass(frozen=True, eq=False)
class DocumentResult:
    """Documents that were drawn."""

    data: Dataset
    texts: tuple[str, ...]
    """The words that were filled in, of each; empty where none were."""
    retrieved: tuple[str, ...] = ()
    """What the documents say that were looked up, the most like last."""
    speed_text: str = ""
    """How fast they were drawn."""
    n_holes: int = 0
    """Texts that were filled in, in each."""

    def text_of(self, index: int) -> str:
        """Return what was said in one of them, for people: where several texts were filled in, each beside its hole."""
        return _label_holes(self.texts[index], self.n_holes)


def generate_documents(
    model: Model,
    request: DocumentRequest,
    n: int,
    *,
    settings: DocumentSamplingConfig = DocumentSamplingConfig(),
    memory: str | None = None,
    rng: Rng = Rng(0),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> DocumentResult:
    """Draw n documents that begin as is wanted.

    Args:
        model: Of documents.
        request: The prompt, and what is drawn behind it.
        n: How many.
        settings: How.
        memory: Documents to look up: a file, a folder, or what was built of them.
        rng: Source of all randomness.
        reporter: Hears how fast it goes.

    Raises:
        InputError: If the memory is damaged, empty or another's.
        UsageError: If the prompt is too long, or what is asked for makes no sense.
    """
    kind = require_documents(model)
    guides = settings.guidance_modes(of_picture=request.is_image_goal)
    if settings.best_of > 1 and kind.vectors is None:
        raise UsageError(
            "this model was fitted without what compares texts and pictures", remedy="Leave it out", argument="best_of"
        )
    datastore = None if memory is None else open_datastore(kind, memory)
    streams = _streams(request, kind, guides)
    room = document_decoder(model).context - len(streams[0]) - kind.symbols.picture - 2  # behind it a picture must fit
    front = _retrieved_context(datastore, streams[0], settings.documents, room, rng)
    retrieved = tuple(decode_text(kind, part) for part in _split_documents(front, kind))
    _warn_of_cropping(request, kind, reporter)
    if datastore is not None:
        more = _retrieved_context(datastore, streams[0], settings.documents, sys.maxsize, rng)
        reporter.log(
            _retrieved_text(retrieved, min(settings.documents, len(datastore.datastore)), fits=len(more) == len(front))
        )
    longest, context = max(map(len, streams)), document_decoder(model).context
    if longest >= context:
        raise UsageError(f"the prompt has {longest} symbols, and the model sees {context} at once", remedy="Shorten it")
    prompts = [[torch.cat([front, stream])] * (n * settings.best_of) for stream in streams]
    reporter.start("drawing")
    start_time = time.monotonic()
    choice = settings.token_sampler or (TEXT_SAMPLING if request.is_text_goal else TokenSampler())
    ways = tuple(SamplingSpec(guide, choice) for guide in guides)
    generated = generate(
        document_decoder(model), prompts, request.decoding_goal(kind), rng.fold_in("documents"), specs=ways
    )
    reporter.finish()
    seconds, symbols = time.monotonic() - start_time, sum(map(len, generated))
    speed = symbols / max(seconds, 1e-9)
    pace = f"{len(generated):,} drawn, {symbols:,} symbols in {seconds:.3g} s, {speed:,.0f} a second"
    rows = [torch.cat([streams[0], part.cpu()]) for part in generated]
    data, fills = Dataset(request.with_kept_pixels(kind, decoded(kind, rows)), {}, kind), request.prompt.has_holes
    texts = [decode_text(kind, part) for part in generated] if fills else []
    if settings.best_of > 1:
        selected = _best(kind, data.values, n, settings.best_of)
        data, texts = data.subset(selected), [texts[i] for i in selected.tolist()] if fills else []
    holes = sum(isinstance(item, MaskItem) for item in request.prompt.items)
    return DocumentResult(data, tuple(texts), retrieved, pace, holes)


def decoded(kind: Documents, rows: list[Int64[Tensor, " _"]]) -> Values:
    """Return the texts and pictures of rows whose holes are filled."""
    symbols = kind.symbols
    plain = [torch.from_numpy(restore_spans(row.cpu().numpy(), symbols)) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(plain, batch_first=True, padding_value=symbols.pad)
    return kind.decode(padded)


def decode_text(kind: Documents, tokens: Int64[Tensor, " m"]) -> str:
    """Return the words that fill the holes of a document, one hole a line."""
    tokens_of_holes: list[list[int]] = [[]]
    for token in tokens.tolist():
        if token < kind.symbols.text:
            tokens_of_holes[-1].append(token)
        elif tokens_of_holes[-1]:
            tokens_of_holes.append([])
    return "\n".join(kind.vocabulary.decode(part).strip() for part in tokens_of_holes if part)


def _label_holes(text: str, holes: int) -> str:
    """Put the hole that it fills in front of each line, where there are several."""
    lines = text.split("\n")
    if holes < 2 or len(lines) != holes:  # a text may have lines of its own
        return text
    return "\n".join(f"<mask> {i}: {line}" for i, line in enumerate(lines, 1))


def _warn_of_cropping(request: DocumentRequest, kind: Documents, reporter: Reporter) -> None:
    """Say where pictures lose their sides."""
    cut = sum(shown.shape[0] * kind.width != shown.shape[1] * kind.height for shown in request.prompt.pictures)
    if cut:
        reporter.log(f"{cut} of {len(request.prompt.pictures)} pictures cut to the middle, {kind.width}x{kind.height}")


def _retrieved_text(looked_up: tuple[str, ...], max_count: int, *, fits: bool) -> str:
    """Say what was looked up, and why it is less than was asked for."""
    why = "all others are too like these" if fits else "there is no room for more"
    less = f" ({len(looked_up)} of {max_count}: {why})"
    return f"looked up: {'; '.join(map(repr, looked_up)) or 'nothing'}{less if len(looked_up) < max_count else ''}"


def _streams(request: DocumentRequest, kind: Documents, guides: tuple[TokenGuidance, ...]) -> list[Int64[Tensor, " _"]]:
    """Return the prompt of each stream that the guides read."""
    most = max(guide.num_streams for guide in guides)
    makers = (request.tokens, request.without_text, request.without_all)
    return [make(kind) for make in makers[:most]]


def _retrieved_context(
    datastore: IndexedDatastore | None, prompt: Int64[Tensor, " l"], count: int, room: int, rng: Rng
) -> Int64[Tensor, " m"]:
    """Return what stands in front of a prompt, where there is room for so many symbols."""
    if datastore is None or not count:
        return prompt[:0]
    retrieval = replace(INFERENCE_RETRIEVER, by_text=count, by_picture=count)  # no more than are wanted: the most like
    (front,) = retrieved_context(datastore, prompt[None], count, [room], rng.fold_in("memory"), retrieval)
    return front


def _split_documents(front: Int64[Tensor, " m"], kind: Documents) -> list[Int64[Tensor, " _"]]:
    """Return the documents that stand one after the other."""
    first = (front == kind.symbols.eos).nonzero()[:, 0].tolist()
    return [front[a:b] for a, b in itertools.pairwise([*first, len(front)])]


def _best(kind: Documents, values: Values, n: int, best_of: int) -> Int64[Tensor, " n"]:
    """Return the numbers of the best of several documents each: those whose texts and pictures point the same way."""
    likeness = similarities(kind, values)
    index = [[*range(i * best_of, (i + 1) * best_of)] for i in range(n)]
    selected = rank_candidates(index, lambda prompt, some: likeness[torch.tensor(list(some))])
    return torch.tensor([one for (one,) in selected])


def similarities(kind: Documents, values: Values) -> Tensor:
    """Return how near the text and the picture of each document are, by what finds documents: at most 1."""
    if kind.vectors is None:
        raise UsageError("this model was fitted without what compares texts and pictures")
    vectors = kind.vectors(kind.encode(values))
    return (vectors.text * vectors.picture).sum(1).double()


def sample_documents(
    run: Run, config: SampleConfig, *, reporter: Reporter = SILENT
) -> tuple[DocumentResult, pathlib.Path]:
    """Draw documents and write them.

    Args:
        run: Holds the model.
        config: What is asked for.
        reporter: Hears how it goes.

    Returns:
        The documents, and where they are.

    Raises:
        InputError: If run, pictures or memory are not what they must be, or the disk is full.
        UsageError: If an argument is wrong.
    """
    options, n, manner = config.document, config.n, sampling_config_of(config)
    if n is not None and n < 1:
        raise UsageError("at least 1", n, argument="n")
    request = _parse_request(options)
    if request is None and options.memory is not None:
        raise UsageError(
            "a --memory is looked up for what is asked, and nothing is", remedy="Give a --prompt, or leave it out"
        )
    model = load_model(run)
    model.network.to(get_engine().device)
    kind, place = require_documents(model), run.output_path(config.output.out)
    kind.check_place(place)
    request = request or unconditional_request(document_decoder(model).context)
    if (options.edit or options.ask) and not kind.tasks:
        reporter.log(
            "this model has learned no tasks, so this is a guess; train it on examples of them: fit --start-from"
        )
    if options.prompt and kind.tasks and request.prompt.has_gap:
        reporter.log("this model has learned tasks, and may have forgotten how to fill gaps inside texts")
    rng, n = Rng(config.seed).fold_in("sample"), n or (1 if isinstance(request.goal, InfillGoal) else 9)
    result = generate_documents(model, request, n, settings=manner, memory=options.memory, rng=rng, reporter=reporter)
    kind.write(result.data.values, result.data.given, place)
    return result, place


def _parse_request(options: DocumentOptions) -> DocumentRequest | None:
    """Return the one thing that is asked for; None for anything."""
    prompt, mask, edit, ask = options.prompt, options.mask, options.edit, options.ask
    given_flags = [flag for flag, value in (("--prompt", prompt), ("--edit", edit), ("--ask", ask)) if value]
    if len(given_flags) > 1:
        raise UsageError(
            f"{given_flags[0]} or {given_flags[1]}", "both", "Choose one", argument=given_flags[0].lstrip("-")
        )
    for flag, pair in (("edit", edit), ("ask", ask)):
        if pair and len(pair) != 2:
            words = 'a picture and words in quotes, such as cat.png "is it blue?"'
            raise UsageError(words, shlex.join(pair), argument=flag)
    if mask is not None:
        if prompt is None:
            raise UsageError(
                "says which part of the picture of a --prompt is drawn anew", remedy="Give one", argument="mask"
            )
        return inpainting_request(prompt, mask)
    if edit:
        return edit_request(edit[0], edit[1])
    if ask:
        return question_request(ask[0], ask[1])
    return None if prompt is None else prompt_request(prompt)


def sampling_config_of(config: SampleConfig) -> DocumentSamplingConfig:
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
    if options.min_p is not None and max(guidance, options.picture_guidance or 1.0) <= 1:
        raise UsageError("is of --guidance above 1", remedy="Name its weight, or leave it out", argument="min_p")
    return DocumentSamplingConfig(
        guidance=guidance,
        picture_guidance=options.picture_guidance,
        min_p=DEFAULT_MIN_P if options.min_p is None else options.min_p,
        contrast=_contrast(options.contrast),
        token_sampler=token_sampler_of(sampler),
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
