"""Evaluation of document models, and of the reconstruction loss of their image tokenizers."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from feller.app.modalities.documents import document_decoder, require_documents
from feller.app.workflows.documents.document_request import MAX_TEXT_TOKENS, DocumentRequest, unconditional_request
from feller.app.workflows.documents.generate_documents import decode_text, decoded, similarities
from feller.app.workflows.fitting.document_tokenizers import is_pretrained_tokenizer
from feller.app.workflows.next_steps import fit_command, suggest_document_commands
from feller.app.workflows.reporting.evaluate_non_generative import (
    COLUMNS,
    EvaluationData,
    ReportContent,
    load_evaluation_data,
    write_evaluation_report,
)
from feller.app.workflows.reporting.evaluation_request import EvaluationRequest
from feller.app.workflows.run_config import read_train_config, train_test_split
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import from_dict
from feller.data.documents.figure import DocumentPart, draw_documents
from feller.data.documents.modality import CODES, Documents, Values, all_pictures, to_parts
from feller.data.documents.prompt import Prompt, instruction_in, question_in
from feller.data.documents.token_layout import InfillItem, MaskItem, ungroup
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import ImageItem, Item, TextItem
from feller.data.modality import Dataset
from feller.evaluation import document_metrics as answers
from feller.evaluation.document_metrics import MAX_DOCUMENTS, documents_quality
from feller.evaluation.number_format import format_number
from feller.evaluation.report.prediction_plots import plot_reconstructions_grid
from feller.evaluation.tokenizer_metrics import Reconstructions, reconstruction_errors
from feller.models.model import Model
from feller.networks.codebook.learned_image_tokenizer import WHITE
from feller.sampling.autoregressive.decoding_goals import DecodingGoal, ImageGoal, InfillGoal
from feller.sampling.autoregressive.document_decoding import generate
from feller.sampling.autoregressive.document_grammar import SymbolKind
from feller.sampling.retrieval.datastore import create_datastore
from feller.sampling.retrieval.retriever import IndexedDatastore
from feller.training.optimizer import TrainConfig

ROWS = 2
"""Number of rows with original images in a figure of reconstructions."""
STEP_FACTOR = 10
"""Factor by which the report advises to increase the training steps of a poor tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizerLoss:
    """Reconstruction loss of an image tokenizer, as metrics and as text for the report."""

    numbers: dict[str, Any] = field(default_factory=dict)
    """Metrics by name; empty without images."""
    sentences: str = ""
    """Text for the report, which starts with a space; empty if the reconstruction is lossless."""
    pictures: tuple[tuple[str, Any], ...] = ()
    next_steps: tuple[tuple[str, str], ...] = ()
    """Command, with a description, that trains the tokenizer longer; empty unless the tokenizer loses more detail than
    downscaling of the images."""


def measure_tokenizer_loss(run: Run, kind: Documents, evaluation: EvaluationData, values: Values) -> TokenizerLoss:
    """Measure the reconstruction error of the tokenizer on the images of documents."""
    images = all_pictures(values)
    if not len(images):
        return TokenizerLoss()
    codes, tokenizer = ungroup(values["rows"], values[CODES]), kind.tokenizer
    reconstructions = Reconstructions(codes, tokenizer.decode(codes))
    metrics = reconstruction_errors(
        images, reconstructions, count=tokenizer.codebook_size, grid=tokenizer.grid, max_level=WHITE
    )
    if torch.equal(images, reconstructions.values):
        return TokenizerLoss(numbers=metrics)
    selection = slice(COLUMNS * ROWS)
    figure = plot_reconstructions_grid(
        Images(kind.height, kind.width, kind.channels), images[selection], reconstructions.values[selection], COLUMNS
    )
    is_poor = (metrics["reconstruction_mse"] or 0.0) > (metrics["reconstruction_mse_shrunk"] or 0.0)
    is_trained_here = (
        tokenizer.module is not None
        and not evaluation.record.start_from
        and not is_pretrained_tokenizer(evaluation.record.config.data_loading.tokenizer)
    )
    return TokenizerLoss(
        numbers=metrics,
        sentences=_loss_sentences(metrics, _remedy(evaluation, is_trained_here=is_trained_here) if is_poor else ""),
        pictures=(
            ("Originals, above their reconstructions by the image tokenizer (an upper bound on quality)", figure),
        ),
        next_steps=(_refit_command(run, evaluation),) if is_poor and is_trained_here else (),
    )


def _loss_sentences(metrics: dict[str, Any], remedy: str) -> str:
    """Return sentences about the reconstruction loss of the tokenizer, and a remedy."""
    psnr, shrunk = (metrics[name] for name in ("psnr", "psnr_shrunk"))
    sentence_start = f" The image tokenizer reconstructs images with {format_number(psnr)} dB"
    if not remedy:
        return f"{sentence_start}, an upper bound on the quality of generated images."
    less = "" if shrunk is None else f", less than the {format_number(shrunk)} dB of images downscaled to its code grid"
    return f"{sentence_start}{less}, an upper bound on the quality of generated images. Remedy: {remedy}."


def _remedy(evaluation: EvaluationData, *, is_trained_here: bool) -> str:
    """Return advice on how to obtain a better tokenizer."""
    if is_trained_here:
        return "train it longer in a new fit, with more --tokenizer.steps (--resume does not change it)"
    if is_pretrained_tokenizer(evaluation.record.config.data_loading.tokenizer):
        return (
            f"continue the training of {evaluation.record.config.data_loading.tokenizer}, then start a new fit"
            " (--resume does not change the tokenizer)"
        )
    if evaluation.record.start_from:
        return f"it comes from {evaluation.record.start_from}; fit that again with more --tokenizer.steps"
    return "start a new fit with --tokenizer learned"


def _refit_command(run: Run, evaluation: EvaluationData) -> tuple[str, str]:
    """Return the command that fits the model again with a longer trained tokenizer, and its description."""
    flag, tokenizer_config = "--tokenizer.steps", run.read_field(run.recipe, "recipe", "aux_networks", "tokenizer")
    steps = STEP_FACTOR * (from_dict(TrainConfig, tokenizer_config).steps or 1)
    arguments = [
        argument
        for previous, argument in pairwise(("", *evaluation.record.provenance.fields))
        if flag not in (previous, argument)
    ]
    fit_record = evaluation.record.with_provenance(fields=(*arguments, flag, str(steps)))
    new_run = Run(run.path.with_name(f"{run.path.name}-anew"))
    return fit_command(new_run, fit_record, read_train_config(run)), "start a new fit with a longer trained tokenizer"


SECONDS = 60.0
"""Approximate duration in seconds of an evaluation without a time limit."""
MAX_CONTINUED = 64
"""Maximum number of documents for which the model generates a continuation."""
SHOWN = 8
"""Number of examples in the report."""


def evaluate_documents(request: EvaluationRequest) -> dict[str, Any]:
    """Evaluate likelihoods, images and texts on held-out documents, and write the report."""
    run, model, reporter = request.run, request.model, request.tell
    if request.samples is not None:
        raise UsageError("documents in --data", "--samples", "Name held-out documents with --data")
    modality, rng = require_documents(model), Rng(0).fold_in("evaluate")
    evaluation = load_evaluation_data(request, lambda source, options: read(source, like=modality))
    train = train_test_split(evaluation.record, evaluation.whole.with_modality(modality))[0]
    real = evaluation.real.subset(torch.arange(min(len(evaluation.real), request.effort.limit(MAX_DOCUMENTS, SECONDS))))
    evaluation = replace(evaluation, real=replace(real, values=modality.with_codes(real.values)))
    reporter.start("evaluating likelihoods")
    encoder = modality.vectors
    datastore = (
        None
        if encoder is None
        else IndexedDatastore(create_datastore(modality.encode(train.values), encoder, modality.symbols), encoder)
    )
    metrics: dict[str, Any] = dict(documents_quality(model.network, modality, evaluation.real, datastore, rng))
    tokenizer_loss = measure_tokenizer_loss(run, modality, evaluation, evaluation.real.values)
    metrics |= tokenizer_loss.numbers
    reporter.start("generating documents")
    figures = []
    for i, evaluate in enumerate((_pictures, _words)):
        content, new_figures = evaluate(model, modality, evaluation, train, rng)
        reporter.progress((i + 1) / 3)
        metrics |= content
        figures += new_figures
    figures += [*tokenizer_loss.pictures, ("Unconditional samples", _draw_unconditional(model, modality, rng))]
    reporter.finish()
    content = ReportContent(
        title=f"{evaluation.record.data}, by the recipe {evaluation.record.provenance.recipe}",
        tried="evaluated on",
        subject=f"Evaluated: {len(evaluation.real):,} documents {evaluation.origin_text}{tokenizer_loss.sentences}",
        numbers=metrics,
        pictures=figures,
        heading="Documents",
        next_steps=[
            *tokenizer_loss.next_steps,
            *_next_steps(run, modality, evaluation, has_datastore=datastore is not None),
        ],
    )
    return write_evaluation_report(evaluation, content)


def _pictures(
    model: Model, modality: Documents, evaluation: EvaluationData, train: Dataset, rng: Rng
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Regenerate the last image of documents from their text, and measure how well images and texts match."""
    requests, indices = [], []
    for i, items in enumerate(modality.items(evaluation.real.values)[:MAX_CONTINUED]):
        if (
            isinstance(items[-1], ImageItem)
            and any(isinstance(item, TextItem) for item in items)
            and not _hidden(items)
        ):
            requests.append(_prompt(modality, items[:-1], evaluation.real.values["pictures"][i], ImageGoal()))
            indices.append(i)
    if not requests:
        return {}, []
    generated = _continue_prompts(model, modality, requests, rng.fold_in("pictures"))
    truth = {name: leaf[torch.tensor(indices)] for name, leaf in evaluation.real.values.items()}
    metrics: dict[str, Any] = {}
    if modality.vectors is not None:
        metrics["match"] = similarities(modality, generated).mean().item()
        metrics["match_real"] = similarities(modality, truth).mean().item()
        mismatched = {**truth, **{name: truth[name].roll(1, 0) for name in ("pictures", CODES)}}
        metrics["match_others"] = similarities(modality, mismatched).mean().item() if len(indices) > 1 else None
    strips = [
        [*prompt, real, drawn]
        for prompt, real, drawn in zip(
            (strip[:-1] for strip in _strips(modality, truth)),
            _last(modality, truth),
            _last(modality, generated),
            strict=True,
        )
    ]
    return metrics, [("Prompt, real image, generated image", draw_documents(strips[:SHOWN], 2))]


def _words(
    model: Model, modality: Documents, evaluation: EvaluationData, train: Dataset, rng: Rng
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Mask the answer or caption in held-out documents, fill it in, and compare it with the true text.

    Return metrics, and captioned documents for the report.
    """
    requests, truth, strips = [], [], []
    for i, items in enumerate(modality.items(evaluation.real.values)[:MAX_CONTINUED]):
        answer = _masked_text(items)
        if answer is None or not any(isinstance(item, ImageItem) for item in items):
            continue
        prompt = [MaskItem() if item is answer else item for item in items]
        images = evaluation.real.values["pictures"][i]
        requests.append(
            _prompt(modality, [*prompt, InfillItem()], images, InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,)))
        )
        truth.append(answer.text)
        strips.append(
            [*(part for part in to_parts(items, images) if not isinstance(part, str)), *_around(items, answer)]
        )
    if not requests:
        return {}, []
    prompts = [[request.tokens(modality) for request in requests]]
    rows = generate(document_decoder(model), prompts, requests[0].goal, rng.fold_in("words"))
    answers_given = [decode_text(modality, row) for row in rows]
    training_answers = Counter(a.text for a in map(_masked_text, modality.items(train.values)) if a is not None)
    most_common = training_answers.most_common(1)[0][0]
    consensus = answers.consensus_text(training_answers)
    has_enough = len(truth) >= answers.MIN_ANSWERS
    metrics = {
        "answers_exact": _mean(answers.is_exact_match, answers_given, truth) if has_enough else None,
        "answers_f1": _mean(answers.token_f1, answers_given, truth) if has_enough else None,
        "answers_usual": _mean(answers.is_exact_match, [most_common] * len(truth), truth) if has_enough else None,
        "answers_f1_usual": _mean(answers.token_f1, [consensus] * len(truth), truth) if has_enough else None,
    }
    examples = [
        [*strip, f"true: {a}\ngenerated: {b}"] for strip, a, b in zip(strips, truth, answers_given, strict=True)
    ]
    return metrics, [("Texts generated for images", draw_documents(examples[:SHOWN], 2))]


def _mean(score: Callable[[str, str], float], answers_given: Sequence[str], truth: Sequence[str]) -> float:
    return fmean(score(text, reference) for text, reference in zip(answers_given, truth, strict=True))


def _draw_unconditional(model: Model, modality: Documents, rng: Rng) -> Any:
    request = unconditional_request(document_decoder(model).context)
    rows = generate(document_decoder(model), [[request.tokens(modality)] * SHOWN], request.goal, rng.fold_in("alone"))
    values = decoded(modality, [torch.cat([request.tokens(modality), row.cpu()]) for row in rows])
    return draw_documents(_strips(modality, values), 2)


def _continue_prompts(model: Model, modality: Documents, requests: list[DocumentRequest], rng: Rng) -> Values:
    """Generate continuations of prompts that have the same decoding goal."""
    prompts = [request.tokens(modality) for request in requests]
    rows = generate(document_decoder(model), [prompts], requests[0].goal, rng)
    return decoded(modality, [torch.cat([prompt, row.cpu()]) for prompt, row in zip(prompts, rows, strict=True)])


def _prompt(
    modality: Documents, items: list[Item | MaskItem | InfillItem] | list[Item], images: Tensor, goal: DecodingGoal
) -> DocumentRequest:
    return DocumentRequest(Prompt(tuple(items), tuple(images.permute(0, 2, 3, 1).numpy())), goal)


def _masked_text(items: list[Item]) -> TextItem | None:
    """Return the text of a document to mask: its only answer, or else its caption; None if it has neither."""
    answer_items = [item for item in items if isinstance(item, TextItem) and item.is_answer]
    if answer_items:
        return answer_items[0] if len(answer_items) == 1 else None
    return items[0] if len(items) == 2 and isinstance(items[0], TextItem) else None


def _next_steps(
    run: Run, modality: Documents, evaluation: EvaluationData, *, has_datastore: bool
) -> Iterator[tuple[str, str]]:
    """Yield example commands, with descriptions, that use texts of the documents."""
    documents = modality.items(evaluation.real.values)[:MAX_CONTINUED]
    texts = (items[0].text for items in documents if isinstance(items[0], TextItem))
    question, instruction = (
        next(filter(None, map(extract, documents)), "") for extract in (question_in, instruction_in)
    )
    return suggest_document_commands(
        run, next(texts, ""), has_datastore=has_datastore, question=question, instruction=instruction
    )


def _around(items: list[Item], answer: TextItem) -> list[str]:
    """Return the other texts of a document joined to one, such as the question of `answer`; empty if there are none."""
    text = " ".join(item.text.strip() for item in items if isinstance(item, TextItem) and item is not answer)
    return [text] if text else []


def _hidden(items: list[Item]) -> bool:
    return any(isinstance(item, TextItem) and item.is_answer for item in items)


def _strips(modality: Documents, values: Values) -> list[list[DocumentPart]]:
    pairs = zip(modality.items(values), values["pictures"], strict=True)
    return [to_parts(items, images) for items, images in pairs]


def _last(modality: Documents, values: Values) -> Iterator[DocumentPart]:
    return (strip[-1] for strip in _strips(modality, values))
