"""Generation of documents in response to a request to a document model."""

import itertools
import pathlib
import shlex
import sys
import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.app.config import SampleConfig
from feller.app.modalities.documents import document_decoder, require_documents
from feller.app.option_groups import DocumentOptions
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
from feller.models.model import Model, load_model, single_guidance_scale
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
"""Default number of retrieved documents to prepend to the prompt."""
TEXT_SAMPLING = TokenSampler(0.5)
"""Default token sampler for text, with temperature 0.5 to prefer likely tokens."""
ALPHA = 0.1
"""Default alpha of contrastive decoding: minimum probability of a token, divided by that of the k-th most likely
token."""
DEFAULT_MIN_P = 0.1
"""Default min-p with guidance: tokens with less than this fraction of the highest probability are dropped."""


@dataclass(frozen=True, kw_only=True)
class DocumentSamplingConfig:
    """Options for sampling documents."""

    guidance: float = 1.0
    """Classifier-free guidance scale of the text, for images; 1 disables guidance."""
    picture_guidance: float | None = None
    """Guidance scale of the image to edit; None to use `guidance` for both text and image."""
    min_p: float = DEFAULT_MIN_P
    """Min-p sampling for a guidance scale above 1: drop tokens below this fraction of the top probability; 0 disables
    it."""
    contrast: tuple[int, float] | None = None
    """Parameters k and alpha of contrastive decoding; if guidance is set too, documents alternate between the two
    methods."""
    token_sampler: TokenSampler | None = None
    """Token sampler; None for plain sampling of images, and for sampling of text with temperature 0.5."""
    best_of: int = 1
    """Number of candidates per document; the candidate with the highest text-image similarity is returned."""
    documents: int = DOCUMENTS
    """Number of retrieved documents to prepend to the prompt."""

    def __post_init__(self) -> None:
        check_number("best_of", self.best_of, ge=1, remedy="1 disables reranking")
        check_number("min_p", self.min_p, ge=0, le=1)
        check_number("documents", self.documents, ge=0)

    def guidance_modes(self, *, of_picture: bool) -> tuple[TokenGuidance, ...]:
        """Return the guidance modes between which documents alternate; `of_picture` is True if the output is an image.

        Raises:
            UsageError: If guidance or contrast is set although the output is not an image.
        """
        is_guided = self.guidance != 1.0 or self.picture_guidance is not None
        min_p = self.min_p if max(self.guidance, self.picture_guidance or 1.0) > 1 else 0.0
        if not of_picture and (is_guided or self.contrast is not None):
            raise UsageError(
                "guidance and contrast apply only to images generated from text",
                remedy="Leave out --guidance and --contrast",
                argument="guidance" if is_guided else "contrast",
            )
        modes: list[TokenGuidance] = []
        if self.picture_guidance is not None:
            modes.append(DualGuidance(float(self.picture_guidance), float(self.guidance), min_p))
        elif is_guided:
            modes.append(ClassifierFreeGuidance(self.guidance, min_p))
        if self.contrast is not None:
            modes.append(ContrastiveDecoding(*self.contrast))
        return tuple(modes) or (NoGuidance(),)


@dataclass(frozen=True, eq=False)
class DocumentResult:
    """Generated documents, with their filled-in texts and the documents retrieved for them."""

    data: Dataset
    texts: tuple[str, ...]
    """Filled-in text of each document; empty if the prompt has no masked spans."""
    retrieved: tuple[str, ...] = ()
    """Texts of the retrieved documents, in order of increasing similarity."""
    speed_text: str = ""
    """Sampling speed as a text for the log."""
    n_holes: int = 0
    """Number of masked text spans filled in per document."""

    def text_of(self, index: int) -> str:
        """Return the filled-in text of a document for display, numbered if there are several masked spans."""
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
    """Generate n documents for a request to a document model.

    Raises:
        InputError: If the datastore is damaged, empty, or belongs to another model.
        UsageError: If the prompt is too long, or options are incompatible.
    """
    modality = require_documents(model)
    modes = settings.guidance_modes(of_picture=request.is_image_goal)
    if settings.best_of > 1 and modality.vectors is None:
        raise UsageError("requires a model with a text-image encoder", remedy="Leave it out", argument="best_of")
    datastore = None if memory is None else open_datastore(modality, memory)
    streams = _streams(request, modality, modes)
    max_length = (
        document_decoder(model).context - len(streams[0]) - modality.symbols.picture - 2
    )  # reserve space for an image
    retrieved_tokens = _retrieved_context(datastore, streams[0], settings.documents, max_length, rng)
    retrieved = tuple(decode_text(modality, tokens) for tokens in _split_documents(retrieved_tokens, modality))
    _warn_of_cropping(request, modality, reporter)
    if datastore is not None:
        all_tokens = _retrieved_context(datastore, streams[0], settings.documents, sys.maxsize, rng)
        reporter.log(
            _retrieved_text(
                retrieved,
                min(settings.documents, len(datastore.datastore)),
                fits=len(all_tokens) == len(retrieved_tokens),
            )
        )
    longest, context = max(map(len, streams)), document_decoder(model).context
    if longest >= context:
        raise UsageError(
            f"a prompt of fewer than {context} tokens, the context length", f"{longest} tokens", "Shorten the prompt"
        )
    prompts = [[torch.cat([retrieved_tokens, stream])] * (n * settings.best_of) for stream in streams]
    reporter.start("generating")
    start_time = time.monotonic()
    token_sampler = settings.token_sampler or (TEXT_SAMPLING if request.is_text_goal else TokenSampler())
    specs = tuple(SamplingSpec(mode, token_sampler) for mode in modes)
    generated = generate(
        document_decoder(model), prompts, request.decoding_goal(modality), rng.fold_in("documents"), specs=specs
    )
    reporter.finish()
    seconds, num_tokens = time.monotonic() - start_time, sum(map(len, generated))
    speed = num_tokens / max(seconds, 1e-9)
    speed_text = f"{len(generated):,} generated, {num_tokens:,} tokens in {seconds:.3g} s ({speed:,.0f} per second)"
    rows = [torch.cat([streams[0], tokens.cpu()]) for tokens in generated]
    data = Dataset(request.with_kept_pixels(modality, decoded(modality, rows)), {}, modality)
    has_holes = request.prompt.has_holes
    texts = [decode_text(modality, tokens) for tokens in generated] if has_holes else []
    if settings.best_of > 1:
        selected = _best(modality, data.values, n, settings.best_of)
        data, texts = data.subset(selected), [texts[i] for i in selected.tolist()] if has_holes else []
    num_holes = sum(isinstance(item, MaskItem) for item in request.prompt.items)
    return DocumentResult(data, tuple(texts), retrieved, speed_text, num_holes)


def decoded(kind: Documents, rows: list[Int64[Tensor, " _"]]) -> Values:
    """Decode token sequences to documents; in these, the generated contents replace the masked spans."""
    symbols = kind.symbols
    restored = [torch.from_numpy(restore_spans(row.cpu().numpy(), symbols)) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(restored, batch_first=True, padding_value=symbols.pad)
    return kind.decode(padded)


def decode_text(kind: Documents, tokens: Int64[Tensor, " m"]) -> str:
    """Return the texts filled into the masked spans of a document, one per line."""
    tokens_of_holes: list[list[int]] = [[]]
    for token in tokens.tolist():
        if token < kind.symbols.text:
            tokens_of_holes[-1].append(token)
        elif tokens_of_holes[-1]:
            tokens_of_holes.append([])
    return "\n".join(kind.vocabulary.decode(hole).strip() for hole in tokens_of_holes if hole)


def _label_holes(text: str, num_holes: int) -> str:
    """Prefix each line of a text with the number of the mask that it fills, if there are several."""
    lines = text.split("\n")
    if num_holes < 2 or len(lines) != num_holes:  # a text may contain line breaks
        return text
    return "\n".join(f"<mask> {i}: {line}" for i, line in enumerate(lines, 1))


def _warn_of_cropping(request: DocumentRequest, modality: Documents, reporter: Reporter) -> None:
    """Log how many images of the prompt are cropped."""
    num_cropped = sum(
        image.shape[0] * modality.width != image.shape[1] * modality.height for image in request.prompt.pictures
    )
    if num_cropped:
        reporter.log(
            f"{num_cropped} of {len(request.prompt.pictures)} images cropped to the centre,"
            f" {modality.width}x{modality.height}"
        )


def _retrieved_text(retrieved: tuple[str, ...], max_count: int, *, fits: bool) -> str:
    """Return a note on the retrieved documents, with the reason if they are fewer than requested."""
    reason = "the others are too similar to these" if fits else "the context is full"
    note = f" ({len(retrieved)} of {max_count}: {reason})"
    return f"retrieved: {'; '.join(map(repr, retrieved)) or 'nothing'}{note if len(retrieved) < max_count else ''}"


def _streams(
    request: DocumentRequest, modality: Documents, modes: tuple[TokenGuidance, ...]
) -> list[Int64[Tensor, " _"]]:
    """Return the prompts that token guidance combines: the full one, the one without text, and the empty one.

    Only as many are returned as the guidance in `modes` needs.
    """
    num_streams = max(mode.num_streams for mode in modes)
    encoders = (request.tokens, request.without_text, request.without_all)
    return [encode(modality) for encode in encoders[:num_streams]]


def _retrieved_context(
    datastore: IndexedDatastore | None, prompt: Int64[Tensor, " l"], count: int, max_length: int, rng: Rng
) -> Int64[Tensor, " m"]:
    """Return the tokens of the retrieved documents that fit into `max_length` tokens."""
    if datastore is None or not count:
        return prompt[:0]
    retrieval = replace(INFERENCE_RETRIEVER, by_text=count, by_picture=count)  # only the most similar
    (tokens,) = retrieved_context(datastore, prompt[None], count, [max_length], rng.fold_in("memory"), retrieval)
    return tokens


def _split_documents(tokens: Int64[Tensor, " m"], modality: Documents) -> list[Int64[Tensor, " _"]]:
    starts = (tokens == modality.symbols.eos).nonzero()[:, 0].tolist()
    return [tokens[a:b] for a, b in itertools.pairwise([*starts, len(tokens)])]


def _best(modality: Documents, values: Values, n: int, best_of: int) -> Int64[Tensor, " n"]:
    """Return the index in `values` of the best of `best_of` candidates of each document, by text-image similarity."""
    similarity = similarities(modality, values)
    groups = [[*range(i * best_of, (i + 1) * best_of)] for i in range(n)]
    selected = rank_candidates(groups, lambda prompt, candidates: similarity[torch.tensor(list(candidates))])
    return torch.tensor([index for (index,) in selected])


def similarities(kind: Documents, values: Values) -> Tensor:
    """Return the cosine similarity between the text and the images of each document."""
    if kind.vectors is None:
        raise UsageError("a model with a text-image encoder", "a model without one")
    vectors = kind.vectors(kind.encode(values))
    return (vectors.text * vectors.picture).sum(1).double()


def sample_documents(
    run: Run, config: SampleConfig, *, reporter: Reporter = SILENT
) -> tuple[DocumentResult, pathlib.Path]:
    """Generate documents with the options of `feller sample`, and write them to files.

    Returns:
        The documents, and the path to which they were written.

    Raises:
        InputError: If the run, an image or the datastore is invalid, or writing fails.
        UsageError: If an argument is invalid.
    """
    options, n, sampling_config = config.document, config.n, sampling_config_of(config)
    if n is not None and n < 1:
        raise UsageError("at least 1", n, argument="n")
    request = _parse_request(options)
    if request is None and options.memory is not None:
        raise UsageError("a --prompt with --memory", "none", "Give a --prompt, or leave --memory out")
    model = load_model(run)
    model.network.to(get_engine().device)
    modality, path = require_documents(model), run.output_path(config.output.out)
    modality.check_place(path)
    request = request or unconditional_request(document_decoder(model).context)
    if (options.edit or options.ask) and not modality.tasks:
        reporter.log("this model was not trained on tasks, so quality is unknown; fine-tune it with: fit --start-from")
    if options.prompt and modality.tasks and request.prompt.has_gap:
        reporter.log("this model was fine-tuned on tasks, and may fill gaps in texts less well")
    rng, n = Rng(config.seed).fold_in("sample"), n or (1 if isinstance(request.goal, InfillGoal) else 9)
    result = generate_documents(
        model, request, n, settings=sampling_config, memory=options.memory, rng=rng, reporter=reporter
    )
    modality.write(result.data.values, result.data.given, path)
    return result, path


def _parse_request(options: DocumentOptions) -> DocumentRequest | None:
    """Return the request for the given options; None to generate documents without a prompt."""
    prompt, mask, edit, ask = options.prompt, options.mask, options.edit, options.ask
    given_flags = [flag for flag, value in (("--prompt", prompt), ("--edit", edit), ("--ask", ask)) if value]
    if len(given_flags) > 1:
        raise UsageError(
            f"{given_flags[0]} or {given_flags[1]}", "both", "Choose one", argument=given_flags[0].lstrip("-")
        )
    for flag, pair in (("edit", edit), ("ask", ask)):
        if pair and len(pair) != 2:
            expected = 'an image and words in quotes, such as cat.png "is it blue?"'
            raise UsageError(expected, shlex.join(pair), argument=flag)
    if mask is not None:
        if prompt is None:
            raise UsageError(
                "requires a --prompt with the image to regenerate", remedy="Give a --prompt", argument="mask"
            )
        return inpainting_request(prompt, mask)
    if edit:
        return edit_request(edit[0], edit[1])
    if ask:
        return question_request(ask[0], ask[1])
    return None if prompt is None else prompt_request(prompt)


def sampling_config_of(config: SampleConfig) -> DocumentSamplingConfig:
    """Convert the options of `feller sample` to options for sampling documents.

    Raises:
        UsageError: If an option does not apply to documents.
    """
    options, sampler = config.document, config.sampler
    guidance = 1.0 if config.guidance is None else single_guidance_scale(config.guidance)
    if options.documents is not None and options.memory is None:
        raise UsageError(
            "applies only with --memory", remedy="Give --memory, or leave --documents out", argument="documents"
        )
    if options.picture_guidance is not None and not options.edit:
        raise UsageError("applies only with --edit", remedy="Leave it out", argument="picture_guidance")
    if options.min_p is not None and max(guidance, options.picture_guidance or 1.0) <= 1:
        raise UsageError(
            "applies only with --guidance above 1", remedy="Set --guidance, or leave --min-p out", argument="min_p"
        )
    return DocumentSamplingConfig(
        guidance=guidance,
        picture_guidance=options.picture_guidance,
        min_p=DEFAULT_MIN_P if options.min_p is None else options.min_p,
        contrast=_contrast(options.contrast),
        token_sampler=token_sampler_of(sampler.tokens),
        best_of=1 if options.best_of is None else options.best_of,
        documents=DOCUMENTS if options.documents is None else options.documents,
    )


def _contrast(text: str | None) -> tuple[int, float] | None:
    if text is None:
        return None
    k, _, alpha = text.partition(":")
    try:
        decoding = ContrastiveDecoding(int(k), float(alpha or ALPHA))
    except ValueError:  # of a UsageError, too
        expected = "K or K:ALPHA with K of at least 1 and ALPHA from 0 to 1, such as 8:0.1"
        raise UsageError(expected, repr(text), argument="contrast") from None
    return decoding.k, decoding.alpha
