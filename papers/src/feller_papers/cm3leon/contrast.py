"""Contrastive decoding: diversity, and reranking of mixed candidates."""

import statistics
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from feller.app.workflows.documents.generate_documents import similarities
from feller.core.rng import Rng
from feller.sampling.autoregressive.document_decoding import SamplingSpec, rank_candidates
from feller.sampling.autoregressive.token_guidance import ContrastiveDecoding
from feller_papers.claims import Claim, spread_of, verdict
from feller_papers.cm3leon.asking import TOP_P, sample_images
from feller_papers.cm3leon.differences import MIN_RATIO, format_column_means
from feller_papers.cm3leon.judges import unique_share
from feller_papers.cm3leon.models import base_model
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import ExperimentData, experiment_data, raw_documents
from feller_papers.scenes.documents import Document

ALPHA = 0.1
"""alpha of contrastive decoding; not in the paper."""
MAX_RATIO = 1.25
"""Largest ratio of two FD-cnn that count as equal."""
LOW_DIVERSITY, HIGH_DIVERSITY = 0.25, 0.75
"""Shares of unique pictures that count as low and high diversity."""
T = TypeVar("T")


def repeat_each(items: Sequence[T], n: int) -> list[T]:
    """Return each item n times in a row."""
    return [item for item in items for _ in range(n)]


def diversity(setting: Setting) -> Iterator[Claim]:
    """Share of unique pictures per prompt, by k."""
    diversities: list[list[float]] = []
    for seed in setting.seeds:
        data, network, rng = (
            experiment_data(setting, seed),
            base_model(setting, seed, setting.dial),
            Rng(seed).fold_in("diversity"),
        )
        documents = repeat_each(data.test_scenes.documents[: setting.num_prompts], setting.best_of)
        images = [
            sample_images(network, data, documents, rng, specs=(SamplingSpec(ContrastiveDecoding(k, ALPHA)),))
            for k in setting.contrastive_ks
        ]
        diversities.append([_diversity(group, setting.best_of) for group in images])
    names = ", ".join(map(str, setting.contrastive_ks))
    at_smallest_k = [row[0] for row in diversities]
    yield Claim(
        "contrastive decoding with k = 1 has almost no diversity, and larger k restore it",
        "k = 1 is greedy at almost every step; values are not printed",
        f"share of different pictures among {setting.best_of} of a prompt, k = {names}: "
        + ", ".join(format_column_means(diversities)),
        f"{spread_of(at_smallest_k)} at k = 1; asked to be at most {LOW_DIVERSITY:g} there, and at least"
        f" {HIGH_DIVERSITY:g} at all others",
        verdict(max(at_smallest_k) <= LOW_DIVERSITY and min(min(row[1:]) for row in diversities) >= HIGH_DIVERSITY),
    )


def _diversity(images: UInt8[Tensor, "n 3 h w"], group_size: int) -> float:
    """Return the mean share of unique pictures per prompt; 0 if all are equal, 1 if all differ."""
    shares = [unique_share(group) for group in images.split(group_size)]
    return statistics.fmean((share - 1 / group_size) / (1 - 1 / group_size) for share in shares)


def mixture(setting: Setting) -> Iterator[Claim]:
    """FD-cnn of top-p, contrastive decoding and their mixture, reranked from equally many candidates."""
    for k in (setting.contrastive_ks[len(setting.contrastive_ks) // 2], setting.contrastive_ks[0]):
        results = [
            _evaluate_mixture(setting, seed, SamplingSpec(ContrastiveDecoding(k, ALPHA))) for seed in setting.seeds
        ]
        ratio = [max(alone) / min(alone) for alone, _ in results]
        yield Claim(
            f"contrastive decoding, k = {k}, is about as good as top-p",
            "curves that lie close together",
            f"FD-cnn of scenes {_format_means([alone for alone, _ in results])}",
            f"{spread_of(ratio)} of the larger by the smaller, asked to be at most {MAX_RATIO:g}",
            verdict(max(ratio) <= MAX_RATIO),
        )
        gain = [min(reranked[:2]) / reranked[2] for _, reranked in results]
        yield Claim(
            f"both together, k = {k}, are better than each, where the best of {setting.best_of} is kept",
            "the mixture keeps improving with the number of candidates, each alone stagnates",
            f"FD-cnn of scenes, the best by what finds documents:"
            f" {_format_means([reranked for _, reranked in results])}",
            f"{spread_of(gain)} of the better one alone by the mixture, asked to be {MIN_RATIO:g} each",
            verdict(min(gain) >= MIN_RATIO),
        )


def _evaluate_mixture(setting: Setting, seed: int, contrast: SamplingSpec) -> tuple[list[float], list[float]]:
    """Return FD-cnn of contrastive decoding and top-p; then of the reranked candidates of each, and of the mixture."""
    data, network, rng = (
        experiment_data(setting, seed),
        base_model(setting, seed, setting.dial),
        Rng(seed).fold_in("mixture"),
    )
    documents = data.test_scenes.documents[: setting.num_images]
    images = [
        sample_images(network, data, repeat_each(documents, setting.best_of), rng, specs=specs)
        for specs in ((contrast,), (TOP_P,), (contrast, TOP_P))
    ]
    alone = [data.fd(group[:: setting.best_of]) for group in images[:2]]
    return alone, [data.fd(rerank(data, documents, group, setting.best_of)) for group in images]


def _format_means(rows: list[list[float]]) -> str:
    names = ("contrastive", "top-p", "half of either")
    return ", ".join(f"{name} {mean}" for name, mean in zip(names, format_column_means(rows), strict=False))


def rerank(
    data: ExperimentData, documents: Sequence[Document], images: UInt8[Tensor, "n 3 h w"], num_candidates: int
) -> UInt8[Tensor, "m 3 h w"]:
    """Return the candidate of each document with the highest similarity to its text, by the retriever."""
    values = {
        **data.modality.values_from_raw(raw_documents(repeat_each(documents, num_candidates)))[0],
        "pictures": images[:, None],
    }
    similarity = similarities(data.modality, values)

    def score(prompt: int, candidates: Sequence[int]) -> Float[Tensor, " m"]:
        return similarity[torch.tensor(candidates)]

    chosen = rank_candidates(
        [range(i * num_candidates, (i + 1) * num_candidates) for i in range(len(documents))], score
    )
    return images[torch.tensor([best for (best,) in chosen])]
