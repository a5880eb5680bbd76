"""Evaluate a document model, and the loss of its image tokenizer."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from feller.app.modalities.documents import reader, require_documents
from feller.app.workflows.documents.document_request import MOST_WORDS, Wanted, anything
from feller.app.workflows.documents.generate_documents import decoded, similarities, words
from feller.app.workflows.fitting.auxiliary_networks import from_a_run
from feller.app.workflows.next_steps import asking, fitting
from feller.app.workflows.reporting.evaluate_non_generative import (
    COLUMNS,
    EvaluationRequest,
    Examined,
    Told,
    examined,
    report,
)
from feller.app.workflows.run_config import parts, training_of
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
"""Of pictures that are shown above what is read back."""
LONGER = 10
"""Times as many steps are advised where a tokeniser keeps too little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rewritten:
    """What a tokeniser loses of pictures that a model is judged by."""

    numbers: dict[str, Any] = field(default_factory=dict)
    """By their names in `METRICS`; none where there are no pictures."""
    said: str = ""
    """One or two sentences, with a space in front; empty where nothing is lost."""
    pages: tuple[tuple[str, Any], ...] = ()
    next_steps: tuple[tuple[str, str], ...] = ()
    """How to have it learn longer, where it loses more than shrinking does."""


def rewritten(run: Run, kind: Documents, it: Examined, values: Values) -> Rewritten:
    """Read the pictures of documents back from their codes.

    Args:
        run: Holds the model.
        kind: Of its documents.
        it: What was asked of the fit.
        values: Documents with the codes of their pictures.
    """
    real = all_pictures(values)
    if not len(real):
        return Rewritten()
    codes, by = ungroup(values["rows"], values[CODES]), kind.tokenizer
    made = Reconstructions(codes, by.decode(codes))
    numbers = reconstruction_errors(real, made, count=by.codebook_size, grid=by.grid, max_level=WHITE)
    if torch.equal(real, made.values):
        return Rewritten(numbers=numbers)
    shown = slice(COLUMNS * ROWS)
    pictures = plot_reconstructions_grid(
        Images(kind.height, kind.width, kind.channels), real[shown], made.values[shown], COLUMNS
    )
    poor = (numbers["reconstruction_mse"] or 0.0) > (numbers["reconstruction_mse_shrunk"] or 0.0)
    learns = by.module is not None and not it.asked.start_from and not from_a_run(it.asked.config.reading.tokenizer)
    return Rewritten(
        numbers=numbers,
        said=_said_loss(numbers, _remedy(it, learns=learns) if poor else ""),
        pages=(("Pictures, each row above what is left of them as codes: nothing that is drawn is better", pictures),),
        next_steps=(_longer(run, it),) if poor and learns else (),
    )


def _said_loss(numbers: dict[str, Any], remedy: str) -> str:
    """Say what the tokeniser loses, and what to do about it."""
    own, small = (numbers[name] for name in ("psnr", "psnr_shrunk"))
    told = f" The tokeniser brings their pictures back with {format_number(own)} dB"
    if not remedy:
        return f"{told}, and no drawing has what it loses."
    less = (
        ""
        if small is None
        else f", less than the {format_number(small)} dB of pictures shrunk to the grid of their codes"
    )
    return f"{told}{less}, and no drawing has what it loses, such as colours: {remedy}."


def _remedy(it: Examined, *, learns: bool) -> str:
    """Say how to get a better tokeniser."""
    if learns:
        return "it was trained too short; fit anew with more --tokenizer.steps, as --resume leaves it as it is"
    if from_a_run(it.asked.config.reading.tokenizer):
        return f"train {it.asked.config.reading.tokenizer} on, then fit anew, as --resume leaves it as it is"
    if it.asked.start_from:
        return f"it is that of {it.asked.start_from}; fit that anew with more --tokenizer.steps"
    return "fit anew with --tokenizer learned"


def _longer(run: Run, it: Examined) -> tuple[str, str]:
    """Return what fits anew with a tokeniser that learns longer, and what it does."""
    flag, learned = "--tokenizer.steps", run.read_field(run.recipe, "recipe", "parts", "tokenizer")
    steps = LONGER * (from_dict(TrainConfig, learned).steps or 1)
    words = [word for before, word in pairwise(("", *it.asked.provenance.fields)) if flag not in (before, word)]
    wanted = it.asked.with_provenance(fields=(*words, flag, str(steps)))
    anew = Run(run.path.with_name(f"{run.path.name}-anew"))
    return fitting(anew, wanted, training_of(run)), "fit anew, with a tokeniser that learns longer"


SECONDS = 60.0
"""That an evaluation of all these takes, about."""
DRAWN = 64
"""Documents that are continued for the numbers, at most."""
SHOWN = 8
"""Of them on the page."""


def measure(request: EvaluationRequest) -> dict[str, Any]:
    """Ask a model about documents that training did not see, let it continue some, and write the report."""
    run, model, tell = request.run, request.model, request.tell
    if request.samples is not None:
        raise UsageError("a model of documents is judged by what it says of others", remedy="Name them with --data")
    kind, draws = require_documents(model), Rng(0).fold_in("evaluate")
    it = examined(request, lambda source, asked: read(source, like=kind))
    train = parts(it.asked, it.whole.with_modality(kind))[0]
    real = it.real.subset(torch.arange(min(len(it.real), request.effort.limit(MAX_DOCUMENTS, SECONDS))))
    it = replace(it, real=replace(real, values=kind.with_codes(real.values)))
    tell.task("asking about documents")
    finder = kind.vectors
    found = (
        None
        if finder is None
        else IndexedDatastore(create_datastore(kind.encode(train.values), finder, kind.symbols), finder)
    )
    numbers: dict[str, Any] = dict(documents_quality(model.network, kind, it.real, found, draws))
    lost = rewritten(run, kind, it, it.real.values)
    numbers |= lost.numbers
    tell.task("continuing documents")
    pages = []
    for i, part in enumerate((_pictures, _words)):
        told, page = part(model, kind, it, train, draws)
        tell.progress((i + 1) / 3)
        numbers |= told
        pages += page
    pages += [*lost.pages, ("Documents of which nothing was said", _alone(model, kind, draws))]
    tell.done()
    told = Told(
        title=f"{it.asked.data}, by the recipe {it.asked.provenance.recipe}",
        tried="asked about",
        judged=f"Judged: what the model says of {len(it.real):,} documents {it.which}{lost.said}",
        numbers=numbers,
        pictures=pages,
        heading="Documents",
        next_steps=[*lost.next_steps, *_next_steps(run, kind, it, remembers=found is not None)],
    )
    return report(it, told)


def _pictures(
    model: Model, kind: Documents, it: Examined, train: Dataset, draws: Rng
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Draw the last pictures of documents again, and compare them with their texts."""
    wanted, real = [], []
    for i, items in enumerate(kind.items(it.real.values)[:DRAWN]):
        if (
            isinstance(items[-1], ImageItem)
            and any(isinstance(item, TextItem) for item in items)
            and not _hidden(items)
        ):
            wanted.append(_prompt(kind, items[:-1], it.real.values["pictures"][i], ImageGoal()))
            real.append(i)
    if not wanted:
        return {}, []
    drawn = _continued(model, kind, wanted, draws.fold_in("pictures"))
    truth = {name: leaf[torch.tensor(real)] for name, leaf in it.real.values.items()}
    numbers: dict[str, Any] = {}
    if kind.vectors is not None:
        numbers["match"] = similarities(kind, drawn).mean().item()
        numbers["match_real"] = similarities(kind, truth).mean().item()
        others = {**truth, **{name: truth[name].roll(1, 0) for name in ("pictures", CODES)}}
        numbers["match_others"] = similarities(kind, others).mean().item() if len(real) > 1 else None
    strips = [
        [*asked, real_one, drawn_one]
        for asked, real_one, drawn_one in zip(
            (strip[:-1] for strip in _strips(kind, truth)), _last(kind, truth), _last(kind, drawn), strict=True
        )
    ]
    return numbers, [
        ("What was asked, the real picture, and the one that was drawn", draw_documents(strips[:SHOWN], 2))
    ]


def _words(
    model: Model, kind: Documents, it: Examined, train: Dataset, draws: Rng
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Fill in hidden texts of documents, or else captions, and compare them with the true ones."""
    wanted, truth, strips = [], [], []
    for i, items in enumerate(kind.items(it.real.values)[:DRAWN]):
        answer = _answer(items)
        if answer is None or not any(isinstance(item, ImageItem) for item in items):
            continue
        prompt = [MaskItem() if item is answer else item for item in items]
        pictures = it.real.values["pictures"][i]
        wanted.append(_prompt(kind, [*prompt, InfillItem()], pictures, InfillGoal(MOST_WORDS, (SymbolKind.TEXT,))))
        truth.append(answer.text)
        strips.append(
            [*(part for part in to_parts(items, pictures) if not isinstance(part, str)), *_around(items, answer)]
        )
    if not wanted:
        return {}, []
    prompts = [[one.tokens(kind) for one in wanted]]
    rows = generate(reader(model), prompts, wanted[0].plan, draws.fold_in("words"))
    told = [words(kind, row) for row in rows]
    learned = Counter(a.text for a in map(_answer, kind.items(train.values)) if a is not None)
    usual = learned.most_common(1)[0][0]
    common = answers.consensus_text(learned)
    enough = len(truth) >= answers.MIN_ANSWERS
    numbers = {
        "answers_exact": _mean(answers.is_exact_match, told, truth) if enough else None,
        "answers_f1": _mean(answers.token_f1, told, truth) if enough else None,
        "answers_usual": _mean(answers.is_exact_match, [usual] * len(truth), truth) if enough else None,
        "answers_f1_usual": _mean(answers.token_f1, [common] * len(truth), truth) if enough else None,
    }
    shown = [[*strip, f"true: {a}\ntold: {b}"] for strip, a, b in zip(strips, truth, told, strict=True)]
    return numbers, [("What is said of pictures", draw_documents(shown[:SHOWN], 2))]


def _mean(score: Callable[[str, str], float], told: Sequence[str], truth: Sequence[str]) -> float:
    """Return the mean score of what was told."""
    return fmean(score(one, other) for one, other in zip(told, truth, strict=True))


def _alone(model: Model, kind: Documents, draws: Rng) -> Any:
    """Draw documents of which nothing is said."""
    wanted = anything(reader(model).context)
    rows = generate(reader(model), [[wanted.tokens(kind)] * SHOWN], wanted.plan, draws.fold_in("alone"))
    values = decoded(kind, [torch.cat([wanted.tokens(kind), row.cpu()]) for row in rows])
    return draw_documents(_strips(kind, values), 2)


def _continued(model: Model, kind: Documents, wanted: list[Wanted], draws: Rng) -> Values:
    """Draw what follows some prompts of one plan."""
    prompts = [one.tokens(kind) for one in wanted]
    rows = generate(reader(model), [prompts], wanted[0].plan, draws)
    return decoded(kind, [torch.cat([prompt, row.cpu()]) for prompt, row in zip(prompts, rows, strict=True)])


def _prompt(
    kind: Documents, items: list[Item | MaskItem | InfillItem] | list[Item], pictures: Tensor, plan: DecodingGoal
) -> Wanted:
    """Return a prompt of the items of a document."""
    return Wanted(Prompt(tuple(items), tuple(pictures.permute(0, 2, 3, 1).numpy())), plan)


def _answer(items: list[Item]) -> TextItem | None:
    """Return the text of a document that is filled in: the one that is hidden, or a caption."""
    hidden = [item for item in items if isinstance(item, TextItem) and item.is_answer]
    if hidden:
        return hidden[0] if len(hidden) == 1 else None
    return items[0] if len(items) == 2 and isinstance(items[0], TextItem) else None


def _next_steps(run: Run, kind: Documents, it: Examined, *, remembers: bool) -> Iterator[tuple[str, str]]:
    """Yield what to ask next, in words of the documents."""
    documents = kind.items(it.real.values)[:DRAWN]
    texts = (items[0].text for items in documents if isinstance(items[0], TextItem))
    question, instruction = (next(filter(None, map(find, documents)), "") for find in (question_in, instruction_in))
    return asking(run, next(texts, ""), remembers=remembers, question=question, instruction=instruction)


def _around(items: list[Item], answer: TextItem) -> list[str]:
    """Return what is said around a hidden text, such as the question; nothing of a caption."""
    words = " ".join(item.text.strip() for item in items if isinstance(item, TextItem) and item is not answer)
    return [words] if words else []


def _hidden(items: list[Item]) -> bool:
    return any(isinstance(item, TextItem) and item.is_answer for item in items)


def _strips(kind: Documents, values: Values) -> list[list[DocumentPart]]:
    """Return what people see of documents."""
    both = zip(kind.items(values), values["pictures"], strict=True)
    return [to_parts(items, pictures) for items, pictures in both]


def _last(kind: Documents, values: Values) -> Iterator[DocumentPart]:
    """Yield the last part of each document."""
    return (strip[-1] for strip in _strips(kind, values))
