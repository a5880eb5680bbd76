"""Infilling: captions of pictures, and spans with known right context."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.evaluation.document_metrics import is_exact_match, token_f1
from feller.networks.sequence.gpt import GPTNetwork
from feller.sampling.autoregressive.document_decoding import infill_mask, log_likelihood, predicted_mask
from feller.sampling.autoregressive.masked_spans import Span, mask_spans
from feller_papers.claims import Claim, mean_of, seeds_of, verdict
from feller_papers.cm3leon.asking import DocumentData, fill_text, replace_picture, text_request
from feller_papers.cm3leon.differences import difference, format_differences
from feller_papers.cm3leon.models import base_model
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import experiment_data, raw_documents
from feller_papers.scenes.documents import Document

Hide = Callable[[Int64[np.ndarray, " n"], DocumentVocabulary], Span]
"""(document, vocabulary) -> masked span."""


def captions(setting: Setting) -> Iterator[Claim]:
    """Accuracy of captions of the right picture, of another picture, and of the most frequent caption."""
    shares: list[tuple[float, float, float]] = []
    overlaps: list[tuple[float, float, float]] = []
    gains = []
    for seed in setting.seeds:
        data, network, rng = (
            experiment_data(setting, seed),
            base_model(setting, seed, setting.dial),
            Rng(seed).fold_in("captions"),
        )
        documents = data.test_scenes.documents[: setting.num_test_documents]
        others = [
            replace_picture(document, other)
            for document, other in zip(documents, [*documents[1:], documents[0]], strict=True)
        ]
        requests, truth = zip(*map(text_request, documents), strict=True)
        predictions = fill_text(network, data, requests, rng)
        shuffled = fill_text(network, data, [text_request(document)[0] for document in others], rng)
        most_frequent = [Counter(data.captions).most_common(1)[0][0]] * len(truth)
        shares.append(_mean_scores(is_exact_match, (predictions, shuffled, most_frequent), truth))
        overlaps.append(_mean_scores(token_f1, (predictions, shuffled, most_frequent), truth))
        ours, better = (
            _scores(token_f1, texts, truth) for texts in (predictions, max(shuffled, most_frequent, key=_by(truth)))
        )
        gains.append(difference(better, ours))
    names = ("of the picture", "of another picture", "the most frequent")
    summary = ", ".join(
        f"{name} {mean_of([row[i] for row in overlaps], 3)} ({mean_of([row[i] for row in shares], 3)})"
        for i, name in enumerate(names)
    )
    yield Claim(
        "a caption that fills a hole before a picture tells of the picture",
        "CIDEr 61.6 on COCO after tuning; Flamingo 79.4",
        f"F1 of words with the true caption (share that is the very same): {summary}",
        f"{seeds_of(setting.seeds)}; F1 above the better of the others {format_differences(gains)}, asked to be three"
        " standard"
        " errors",
        verdict(all(gain.significant for gain in gains)),
    )


def _scores(
    score: Callable[[str, str], float], predictions: Sequence[str], truth: Sequence[str]
) -> Float64[Tensor, " n"]:
    return torch.tensor([float(score(a, b)) for a, b in zip(predictions, truth, strict=True)], dtype=torch.float64)


def _mean_scores(
    score: Callable[[str, str], float],
    predictions_by_method: tuple[list[str], list[str], list[str]],
    truth: Sequence[str],
) -> tuple[float, float, float]:
    """Return the mean score of each method."""
    first, second, third = (_scores(score, predictions, truth).mean().item() for predictions in predictions_by_method)
    return first, second, third


def _by(truth: Sequence[str]) -> Callable[[Sequence[str]], float]:
    return lambda predictions: _scores(token_f1, predictions, truth).mean().item()


def holes(setting: Setting) -> Iterator[Claim]:
    """Perplexity of spans of captions and pictures, with and without the right context."""
    for what, hide in HOLES.items():
        costs: list[tuple[float, float]] = []
        gains = []
        for seed in setting.seeds:
            data, network = experiment_data(setting, seed), base_model(setting, seed, setting.dial)
            infilled, left_to_right, counts = hole_nlls(
                network, data, data.test_scenes.documents[: setting.num_test_documents], hide
            )
            costs.append((_perplexity(infilled, counts), _perplexity(left_to_right, counts)))
            gains.append(difference(infilled / counts, left_to_right / counts))
        yield Claim(
            f"what follows a hole helps to fill it: {what} of scenes",
            "not in the paper; what the training is for",
            f"perplexity of a symbol in the hole {mean_of([a for a, _ in costs])}, of the same symbols read from left "
            f"to right {mean_of([b for _, b in costs])}",
            f"{seeds_of(setting.seeds)}; nats a symbol saved {format_differences(gains)}, asked to be three standard"
            " errors",
            verdict(all(gain.significant for gain in gains)),
        )


def hole_nlls(
    network: GPTNetwork, data: DocumentData, documents: Sequence[Document], hide: Hide
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return the NLL of spans with both contexts, the NLL with the left context only, and the numbers of tokens."""
    symbols = data.modality.symbols
    whole, with_hole, spans = [], [], []
    for document in documents:
        row = encode_document(data, document)
        span = hide(row, symbols)
        whole.append(torch.from_numpy(np.append(row, symbols.eos)))
        with_hole.append(torch.from_numpy(np.append(mask_spans(row, [span], symbols).tokens, symbols.eos)))
        spans.append(span)
    plain, with_holes = (pad_sequence(rows, batch_first=True, padding_value=symbols.pad) for rows in (whole, with_hole))
    position = torch.arange(plain.shape[1])
    inside = torch.stack([(position >= a) & (position < b) for a, b in spans])
    last = with_holes.ne(symbols.pad).sum(1) - 1
    content = (
        infill_mask(with_holes, symbols)
        & (torch.arange(with_holes.shape[1]) < last[:, None])
        & predicted_mask(with_holes, symbols)
    )
    infilled = -log_likelihood(network, with_holes, content, symbols)
    return infilled, -log_likelihood(network, plain, inside, symbols), inside.sum(1)


def encode_document(data: DocumentData, document: Document) -> Int64[np.ndarray, " n"]:
    """Return the tokens of a document, without padding."""
    row = data.modality.encode(data.modality.values_from_raw(raw_documents([document]))[0])[0]
    return row[row != data.modality.symbols.pad].numpy()


def middle_of_picture(row: Int64[np.ndarray, " n"], symbols: DocumentVocabulary) -> Span:
    """Return the middle third of the codes of a document with one picture."""
    return _middle(np.flatnonzero((row >= symbols.text) & (row < symbols.eos)))


def _of_caption(row: Int64[np.ndarray, " n"], symbols: DocumentVocabulary) -> Span:
    return _middle(np.flatnonzero(row < symbols.text))


def _whole_caption(row: Int64[np.ndarray, " n"], symbols: DocumentVocabulary) -> Span:
    places = np.flatnonzero(row < symbols.text)
    return int(places[0]), int(places[-1]) + 1


HOLES: dict[str, Hide] = {
    "captions before their pictures": _whole_caption,
    "the middle third of captions": _of_caption,
    "the middle third of pictures": middle_of_picture,
}


def _middle(places: Int64[np.ndarray, " n"]) -> Span:
    """Return the middle third of contiguous positions, at least one."""
    a, n = int(places[0]), len(places)
    return a + n // 3, a + max(n // 3 + 1, 2 * n // 3)


def _perplexity(spent: Float64[Tensor, " n"], counts: Int64[Tensor, " n"]) -> float:
    return math.exp(spent.sum().item() / int(counts.sum()))
