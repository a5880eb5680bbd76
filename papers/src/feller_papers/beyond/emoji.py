"""Documents of emoji: guidance, contrastive decoding, retrieval, captions and holes, where codes are uncertain."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.document_metrics import token_f1
from feller.sampling.autoregressive.document_decoding import SamplingSpec
from feller.sampling.autoregressive.token_guidance import ClassifierFreeGuidance, ContrastiveDecoding, NoGuidance
from feller_papers.beyond.emoji_judge import NUM_CANDIDATES
from feller_papers.beyond.emoji_models import emoji_decoder
from feller_papers.beyond.emoji_pictures import NAMES, PICTURES
from feller_papers.beyond.emoji_setting import EmojiSetting
from feller_papers.beyond.emoji_world import EmojiData, emoji_data
from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, spread_of, untestable, verdict
from feller_papers.cm3leon.asking import code_nlls, fill_text, replace_picture, sample_images, text_request
from feller_papers.cm3leon.differences import difference, format_column_means, format_differences
from feller_papers.cm3leon.infilling import hole_nlls, middle_of_picture
from feller_papers.cm3leon.models import MAX_RETRIEVED

MIN_P = 0.1
"""Smallest probability of a code relative to the likeliest, at all weights of guidance and in contrastive decoding."""
CONTRAST = ContrastiveDecoding(1, MIN_P)
MIN_GAIN, MIN_SHARE = 0.05, 0.5
"""Required gain of right names by guidance, and required fraction at the best weight."""
NOT_IN_A_PAPER = "not in a paper"


Test = Callable[[EmojiSetting], Iterator[Claim]]


def needs_pictures(test: Test) -> Test:
    """Return a claim test that is not testable without the npm packages."""

    @functools.wraps(test)
    def checked(setting: EmojiSetting) -> Iterator[Claim]:
        if setting.folder is not None:
            yield from test(setting)
        else:
            why = f"needs a folder --data with the unpacked npm packages {PICTURES} and {NAMES}"
            yield untestable(f"emoji documents: {test.__name__}", NOT_IN_A_PAPER, why)

    return checked


@functools.cache
def right_names(setting: EmojiSetting, seed: int) -> dict[str, float]:
    """Return the fraction of pictures with the right name, by decoding method: weights, `plain` and `contrast`."""
    data, network = emoji_data(setting, seed), emoji_decoder(setting, seed)
    specs = {f"{w:g}": SamplingSpec(ClassifierFreeGuidance(w, MIN_P)) for w in setting.guidance_weights}
    specs |= {"plain": SamplingSpec(NoGuidance()), "contrast": SamplingSpec(CONTRAST)}
    rng = Rng(seed).fold_in("emoji guidance")
    return {
        name: data.accuracy(sample_images(network, data, data.test.documents, rng, specs=(spec,)))
        for name, spec in specs.items()
    }


@needs_pictures
def reconstruction(setting: EmojiSetting) -> Iterator[Claim]:
    """Error of the picture tokenizer, and what the judge sees of real and of reconstructed pictures."""
    results = []
    for seed in setting.seeds:
        data = emoji_data(setting, seed)
        tokenizer, real = data.modality.tokenizer, data.test.pictures
        decoded = tokenizer.decode(tokenizer.encode(real))
        mse = ((decoded.double() - real.double()) / 255).square().mean().item()
        results.append((-10 * math.log10(mse), data.accuracy(real), data.accuracy(decoded)))
    psnr, real_share, share = ([row[i] for row in results] for i in range(3))
    codes = math.prod(emoji_data(setting, setting.seeds[0]).modality.tokenizer.grid)
    yield Claim(
        "a learned tokenizer keeps the name of an emoji",
        NOT_IN_A_PAPER,
        f"{codes} codes per picture of {setting.side} x {setting.side} pixels, PSNR {mean_of(psnr, 3)} dB; the judge"
        f" chooses the right name of {NUM_CANDIDATES} for {mean_of(share, 3)} of the reconstructed pictures, for"
        f" {mean_of(real_share, 3)} of the real ones",
        f"{spread_of(share)}; at least 0.8 is required",
        verdict(min(share) >= 0.8),
    )


@needs_pictures
def guidance(setting: EmojiSetting) -> Iterator[Claim]:
    """Fraction of right names by guidance weight, and of contrastive decoding."""
    names = [f"{w:g}" for w in setting.guidance_weights]
    runs = [right_names(setting, seed) for seed in setting.seeds]
    best = [max(run[name] for name in names) for run in runs]
    gains = [share - run[names[0]] for share, run in zip(best, runs, strict=True)]
    columns = format_column_means([[run[name] for name in names] for run in runs])
    plain = mean_of([run["plain"] for run in runs], 3)
    yield Claim(
        "guidance draws the right emoji more often",
        NOT_IN_A_PAPER,
        f"right name of {NUM_CANDIDATES}, at weights {numbers_of(setting.guidance_weights)} among codes of at least"
        f" {MIN_P:g} times the highest probability: {', '.join(columns)}; without guidance among all codes {plain}",
        f"{mean_of(best, 3)} ({spread_of(best)}) at the best weight, {mean_of(gains, 3)} ({spread_of(gains)}) above"
        f" weight {names[0]}; at least {MIN_SHARE:g} and {MIN_GAIN:g} are required of each seed",
        verdict(min(best) >= MIN_SHARE and min(gains) >= MIN_GAIN),
    )
    contrast = [run["contrast"] for run in runs]
    gains = [run["contrast"] - run[names[0]] for run in runs]
    yield Claim(
        "contrastive decoding draws the right emoji more often",
        NOT_IN_A_PAPER,
        f"right name of {NUM_CANDIDATES}: {mean_of(contrast, 3)} with k = 1, {mean_of([run[names[0]] for run in runs])}"
        " without contrast among the same codes",
        f"{mean_of(gains, 3)} ({spread_of(gains)}) more; {MIN_GAIN:g} is required of each seed",
        verdict(min(gains) >= MIN_GAIN),
    )


@needs_pictures
def retrieval(setting: EmojiSetting) -> Iterator[Claim]:
    """Perplexity of held-out pictures with and without retrieved documents."""
    gains, perplexities = [], []
    for seed in setting.seeds:
        data, network, rng = emoji_data(setting, seed), emoji_decoder(setting, seed), Rng(seed).fold_in("emoji memory")
        without, with_documents = (
            code_nlls(network, data, data.test.rows, rng, num_retrieved=count) for count in (0, MAX_RETRIEVED)
        )
        perplexities.append([math.exp(nll.mean().item()) for nll in (without, with_documents)])
        gains.append(difference(with_documents, without))
    columns = format_column_means(perplexities)
    yield Claim(
        "two retrieved documents lower the perplexity of pictures",
        "CM3Leon: FID 10.82 without, 4.88 with two documents",
        f"perplexity of a code {columns[1]} with two documents, {columns[0]} without",
        f"{seeds_of(setting.seeds)}; reduction in nats per code {format_differences(gains)}, at least three standard"
        " errors are required",
        verdict(all(gain.significant for gain in gains)),
    )


@needs_pictures
def captions(setting: EmojiSetting) -> Iterator[Claim]:
    """Overlap of generated captions with true captions, by picture."""
    rows, gains = [], []
    for seed in setting.seeds:
        data, network, rng = emoji_data(setting, seed), emoji_decoder(setting, seed), Rng(seed).fold_in("emoji text")
        documents = data.test.documents
        others = [replace_picture(a, b) for a, b in zip(documents, documents[1:] + documents[:1], strict=True)]
        requests, truth = zip(*map(text_request, documents), strict=True)
        ours = _overlaps(fill_text(network, data, requests, rng), truth)
        other = _overlaps(fill_text(network, data, [text_request(document)[0] for document in others], rng), truth)
        commonest = _overlaps([_commonest(data)] * len(truth), truth)
        rows.append([scores.mean().item() for scores in (ours, other, commonest)])
        gains.append(difference(max(other, commonest, key=lambda scores: scores.mean().item()), ours))
    columns = format_column_means(rows)
    yield Claim(
        "a generated caption describes the picture",
        NOT_IN_A_PAPER,
        f"F1 of words with the true caption {columns[0]}; caption of another picture {columns[1]}, most frequent"
        f" words {columns[2]}",
        f"{seeds_of(setting.seeds)}; above the better of the two by {format_differences(gains)}, at least three"
        " standard errors are required",
        verdict(all(gain.significant for gain in gains)),
    )


def _commonest(data: EmojiData) -> str:
    """Return the most frequent words of training captions, as many as captions have on average."""
    words = [word for text in data.captions for word in text.replace(":", " ").replace(",", " ").split()]
    count = max(1, round(len(words) / len(data.captions)))
    return " ".join(word for word, _ in Counter(words).most_common(count))


def _overlaps(texts: Sequence[str], truth: Sequence[str]) -> Float64[Tensor, " n"]:
    return torch.tensor([token_f1(a, b) for a, b in zip(texts, truth, strict=True)], dtype=torch.float64)


@needs_pictures
def holes(setting: EmojiSetting) -> Iterator[Claim]:
    """Perplexity of the middle third of pictures, filled with both contexts and read from left to right."""
    rows, gains = [], []
    for seed in setting.seeds:
        data, network = emoji_data(setting, seed), emoji_decoder(setting, seed)
        filled, plain, counts = hole_nlls(network, data, data.test.documents, middle_of_picture)
        rows.append([math.exp((nll.sum() / counts.sum()).item()) for nll in (filled, plain)])
        gains.append(difference(filled / counts, plain / counts))
    columns = format_column_means(rows)
    yield Claim(
        "a hole of a third of a picture is filled no worse than from left to right",
        NOT_IN_A_PAPER,
        f"perplexity of a code {columns[0]} with both contexts, {columns[1]} from left to right",
        f"{seeds_of(setting.seeds)}; reduction in nats per code {format_differences(gains)}, at least 0 is required of"
        " each seed",
        verdict(all(gain.mean >= 0 for gain in gains)),
    )
