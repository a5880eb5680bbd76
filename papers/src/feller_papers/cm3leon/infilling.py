"""Filling holes: captions of pictures, and parts whose right side is known."""

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
from feller_papers.cm3leon.asking import to_say, with_picture, words
from feller_papers.cm3leon.differences import difference, listed
from feller_papers.cm3leon.models import base
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import World, found, world
from feller_papers.scenes.documents import Written

Hide = Callable[[Int64[np.ndarray, " n"], DocumentVocabulary], Span]
"""A document -> what is hidden of it."""


def captions(setting: Setting) -> Iterator[Claim]:
    """Captions of scenes, of the right picture and of another, and the most frequent one."""
    shares: list[tuple[float, float, float]] = []
    overlaps: list[tuple[float, float, float]] = []
    apart = []
    for seed in setting.seeds:
        it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Rng(seed).fold_in("captions")
        seen = it.seen.documents[: setting.asked]
        others = [with_picture(one, other) for one, other in zip(seen, [*seen[1:], seen[0]], strict=True)]
        asked, truth = zip(*map(to_say, seen), strict=True)
        told = words(network, it, asked, draws)
        blind = words(network, it, [to_say(one)[0] for one in others], draws)
        usual = [Counter(it.captions).most_common(1)[0][0]] * len(truth)
        shares.append(_three(is_exact_match, (told, blind, usual), truth))
        overlaps.append(_three(token_f1, (told, blind, usual), truth))
        ours, better = (_scores(token_f1, some, truth) for some in (told, max(blind, usual, key=_by(truth))))
        apart.append(difference(better, ours))
    names = ("of the picture", "of another picture", "the most frequent")
    told = ", ".join(
        f"{name} {mean_of([row[i] for row in overlaps], 3)} ({mean_of([row[i] for row in shares], 3)})"
        for i, name in enumerate(names)
    )
    yield Claim(
        "a caption that fills a hole before a picture tells of the picture",
        "CIDEr 61.6 on COCO after tuning; Flamingo 79.4",
        f"F1 of words with the true caption (share that is the very same): {told}",
        f"{seeds_of(setting.seeds)}; F1 above the better of the others {listed(apart)}, asked to be three standard"
        " errors",
        verdict(all(one.sure for one in apart)),
    )


def _scores(score: Callable[[str, str], float], told: Sequence[str], truth: Sequence[str]) -> Float64[Tensor, " n"]:
    return torch.tensor([float(score(a, b)) for a, b in zip(told, truth, strict=True)], dtype=torch.float64)


def _three(
    score: Callable[[str, str], float], ways: tuple[list[str], list[str], list[str]], truth: Sequence[str]
) -> tuple[float, float, float]:
    """Return the mean score of each way to tell."""
    first, second, third = (_scores(score, told, truth).mean().item() for told in ways)
    return first, second, third


def _by(truth: Sequence[str]) -> Callable[[Sequence[str]], float]:
    return lambda told: _scores(token_f1, told, truth).mean().item()


def holes(setting: Setting) -> Iterator[Claim]:
    """Whole captions, and a third of one or of a picture, with what follows it known and not known."""
    for what, hide in HOLES.items():
        costs: list[tuple[float, float]] = []
        saved = []
        for seed in setting.seeds:
            it, network = world(setting, seed), base(setting, seed, setting.dial)
            filled, onwards, counts = both_ways(network, it, it.seen.documents[: setting.asked], hide)
            costs.append((_perplexity(filled, counts), _perplexity(onwards, counts)))
            saved.append(difference(filled / counts, onwards / counts))
        yield Claim(
            f"what follows a hole helps to fill it: {what} of scenes",
            "not in the paper; what the training is for",
            f"perplexity of a symbol in the hole {mean_of([a for a, _ in costs])}, of the same symbols read from left "
            f"to right {mean_of([b for _, b in costs])}",
            f"{seeds_of(setting.seeds)}; nats a symbol saved {listed(saved)}, asked to be three standard errors",
            verdict(all(one.sure for one in saved)),
        )


def both_ways(
    network: GPTNetwork, it: World, documents: Sequence[Written], hide: Hide
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return the nats of a hole behind all that is around it, those of the same symbols read on, and their number."""
    symbols = it.kind.symbols
    whole, with_hole, spans = [], [], []
    for document in documents:
        row = rows_of(it, document)
        span = hide(row, symbols)
        whole.append(torch.from_numpy(np.append(row, symbols.eos)))
        with_hole.append(torch.from_numpy(np.append(mask_spans(row, [span], symbols).tokens, symbols.eos)))
        spans.append(span)
    plain, moved = (pad_sequence(rows, batch_first=True, padding_value=symbols.pad) for rows in (whole, with_hole))
    place = torch.arange(plain.shape[1])
    inside = torch.stack([(place >= a) & (place < b) for a, b in spans])
    last = moved.ne(symbols.pad).sum(1) - 1
    content = (
        infill_mask(moved, symbols) & (torch.arange(moved.shape[1]) < last[:, None]) & predicted_mask(moved, symbols)
    )
    filled = -log_likelihood(network, moved, content, symbols)
    return filled, -log_likelihood(network, plain, inside, symbols), inside.sum(1)


def rows_of(it: World, document: Written) -> Int64[np.ndarray, " n"]:
    """Return the symbols of a document, without padding."""
    row = it.kind.encode(it.kind.values_from_raw(found([document]))[0])[0]
    return row[row != it.kind.symbols.pad].numpy()


def _of_picture(row: Int64[np.ndarray, " n"], symbols: DocumentVocabulary) -> Span:
    return _middle(np.flatnonzero((row >= symbols.text) & (row < symbols.eos)))


def _of_caption(row: Int64[np.ndarray, " n"], symbols: DocumentVocabulary) -> Span:
    return _middle(np.flatnonzero(row < symbols.text))


def _whole_caption(row: Int64[np.ndarray, " n"], symbols: DocumentVocabulary) -> Span:
    places = np.flatnonzero(row < symbols.text)
    return int(places[0]), int(places[-1]) + 1


HOLES: dict[str, Hide] = {
    "captions before their pictures": _whole_caption,
    "the middle third of captions": _of_caption,
    "the middle third of pictures": _of_picture,
}


def _middle(places: Int64[np.ndarray, " n"]) -> Span:
    """Return the middle third of places that follow each other, one at least."""
    a, n = int(places[0]), len(places)
    return a + n // 3, a + max(n // 3 + 1, 2 * n // 3)


def _perplexity(spent: Float64[Tensor, " n"], counts: Int64[Tensor, " n"]) -> float:
    return math.exp(spent.sum().item() / int(counts.sum()))
