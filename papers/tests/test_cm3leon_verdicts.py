"""Verdicts of the CM3Leon claims, for results that hold and results that do not."""

from dataclasses import replace

import pytest
import torch

from feller.core.rng import Rng
from feller.sampling.autoregressive.decoding_goals import ImageGoal
from feller_papers.claims import FAILS, HOLDS, Claim
from feller_papers.cm3leon import (
    CLAIM_TESTS,
    asking,
    contrast,
    guidance,
    infilling,
    retrieval,
    sizes,
    tuning,
)
from feller_papers.cm3leon.asking import text_request
from feller_papers.cm3leon.judges import SceneJudge
from feller_papers.scenes.creatures import views
from tiny import TINY


@pytest.fixture
def fast_sampling(monkeypatch) -> None:
    """Replace sampling from the network by random tokens."""

    def sample_tokens(network, prompts, goal, rng, *, specs, batch_size):
        symbols, n = network.vocabulary, len(prompts[0])
        assert len(prompts) == max(spec.guidance.num_streams for spec in specs)
        if isinstance(goal, ImageGoal):
            codes = symbols.text + rng.stream("codes").randint(symbols.codes, (n, symbols.picture))
            return [torch.cat([row, torch.tensor([symbols.break_token])]) for row in codes]
        letters = rng.stream("letters").randint(symbols.text, (n, 4))
        return [torch.cat([row, torch.tensor([symbols.eos])]) for row in letters]

    monkeypatch.setattr(asking, "generate", sample_tokens)


@pytest.mark.parametrize("test", CLAIM_TESTS, ids=lambda test: f"{test.__module__.rpartition('.')[2]}.{test.__name__}")
def test_claims_are_well_formed(test, fast_sampling) -> None:
    claims = list(test(TINY))
    assert claims
    for claim in claims:
        assert isinstance(claim, Claim)
        assert claim.verdict in (HOLDS, FAILS)
        assert "1 seed" in claim.spread
        assert "nan" not in claim.ours
        assert "\n" not in claim.claim + claim.paper + claim.ours + claim.spread


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.2, FAILS), (1.0, HOLDS)])
def test_tuned_model_must_exceed_the_baseline(monkeypatch, accuracy: float, verdict: str) -> None:
    """Accuracy 0 before tuning; then that of the baseline, or 1."""
    scores = iter([torch.zeros(100).double(), (torch.arange(100) < 100 * accuracy).double()])
    baseline = ("the commonest answer", 20 * [1.0] + 80 * [0.0])
    metric = tuning.TaskMetric("answers", lambda *asked: next(scores), lambda documents: baseline)
    monkeypatch.setattr(tuning, "TASK_METRICS", {"question": metric})
    (claim,) = tuning.tasks(TINY)
    assert claim.verdict == verdict
    assert "the commonest answer 0.2" in claim.ours


@pytest.mark.parametrize(
    ("costs", "verdicts"),
    [
        ({0: 2.0, 1: 1.5, 2: 1.0, "chance": 2.0}, [HOLDS, HOLDS]),
        ({0: 2.0, 1: 1.5, 2: 1.6, "chance": 2.0}, [FAILS, HOLDS]),
        ({0: 2.0, 1: 1.5, 2: 1.0, "chance": 1.5}, [HOLDS, FAILS]),
        ({0: 1.0, 1: 1.5, 2: 2.0, "chance": 1.0}, [FAILS, FAILS]),
    ],
)
def test_retrieval_verdicts(monkeypatch, costs, verdicts) -> None:
    def code_nlls(network, data, rows, rng, *, num_retrieved=0, retriever=None):
        noise = 0.01 * torch.arange(len(rows)).double()
        return costs["chance" if retriever is not None else num_retrieved] + noise * (1 + num_retrieved)

    monkeypatch.setattr(retrieval, "code_nlls", code_nlls)
    assert [claim.verdict for claim in retrieval.perplexity(TINY)] == verdicts


@pytest.mark.parametrize(
    ("others", "plausible", "verdicts"),
    [
        ([(1.0, 0.8), (2.0, 0.5)], [(2.0, 0.9), (1.0, 0.95)], [FAILS, FAILS, FAILS, FAILS, FAILS, HOLDS, HOLDS]),
        (
            [(2.0, 0.5), (1.0, 0.8), (2.0, 0.9)],
            [(1.0, 0.9), (2.0, 0.85), (3.0, 0.8)],
            [HOLDS, HOLDS, HOLDS, HOLDS, FAILS, FAILS, FAILS],
        ),
    ],
)
def test_guidance_verdicts_by_symbol_set(monkeypatch, others, plausible, verdicts) -> None:
    """FD-cnn and accuracy by weight: with or without interior minimum, increasing or not; then the mean accuracy."""
    setting = replace(TINY, guidance_weights=(1.0, 3.0, 5.0)[: len(plausible)])
    monkeypatch.setattr(
        guidance,
        "sweep",
        lambda setting, seed, dial, symbol_set: plausible if guidance.SYMBOL_SETS[symbol_set][0] else others,
    )
    assert [claim.verdict for claim in guidance.weights(setting)] == verdicts


@pytest.mark.parametrize(
    ("best", "verdict"),
    [((1, 1, 1), FAILS), ((1, 2, 2), HOLDS), ((2, 2, 2), HOLDS), ((1, 3, 2), FAILS), ((3, 3, 3), FAILS)],
)
def test_best_weight_verdicts_by_size(monkeypatch, best, verdict) -> None:
    """Equal or adjacent weights hold, unless all are at one end."""
    setting = replace(TINY, guidance_weights=(1.0, 2.0, 3.0))

    def sweep(setting, seed, dial, symbol_set):
        return [(float(w != best[dial - 1]), 0.5) for w in setting.guidance_weights]

    monkeypatch.setattr(guidance, "sweep", sweep)
    assert [claim.verdict for claim in guidance.sizes(setting)] == 3 * [verdict]


@pytest.mark.parametrize(
    ("alone", "reranked", "verdicts"),
    [
        ([1.0, 1.2], [1.0, 1.1, 0.9], [HOLDS, HOLDS]),
        ([1.3, 1.0], [1.0, 1.1, 0.95], [FAILS, FAILS]),
        ([1.0, 1.3], [1.1, 0.8, 0.9], [FAILS, FAILS]),
    ],
)
def test_mixture_verdicts(monkeypatch, alone, reranked, verdicts) -> None:
    """FD-cnn alone, and reranked: a mixture a tenth below both holds."""
    monkeypatch.setattr(contrast, "_evaluate_mixture", lambda setting, seed, way: (alone, reranked))
    assert [claim.verdict for claim in contrast.mixture(TINY)] == 2 * verdicts


@pytest.mark.parametrize(
    ("num_unique", "verdict"),
    [((1, 2), HOLDS), ((2, 2), FAILS), ((1, 1), FAILS)],
)
def test_diversity_verdicts(monkeypatch, num_unique, verdict) -> None:
    """One or two unique pictures of two per prompt, at k = 1 and at k = 4."""
    numbers = iter(num_unique)

    def sample_images(network, data, documents, rng, *, specs):
        number = torch.arange(len(documents)).remainder(next(numbers)).byte()
        return number[:, None, None, None].expand(-1, 3, 16, 16)

    monkeypatch.setattr(contrast, "sample_images", sample_images)
    assert [claim.verdict for claim in contrast.diversity(TINY)] == [verdict]
    assert contrast._diversity(
        torch.tensor([0, 0, 1, 1]).byte()[:, None, None, None].expand(-1, 3, 16, 16), 4
    ) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("predicted", "shuffled", "verdict"),
    [("right", "wrong", HOLDS), ("wrong", "right", FAILS), ("right", "right", FAILS)],
)
def test_caption_verdicts(monkeypatch, predicted, shuffled, verdict) -> None:
    answers = iter((predicted, shuffled))

    def fill_text(network, data, requests, rng):
        right = next(answers) == "right"
        return [
            text_request(document)[1] if right else "of nothing"
            for document in data.test_scenes.documents[: len(requests)]
        ]

    monkeypatch.setattr(infilling, "fill_text", fill_text)
    assert [claim.verdict for claim in infilling.captions(TINY)] == [verdict]


@pytest.mark.parametrize(("infilled", "verdict"), [(1.0, HOLDS), (2.0, FAILS), (3.0, FAILS)])
def test_infilling_verdicts(monkeypatch, infilled, verdict) -> None:
    code_nlls = torch.arange(4).double() / 100
    claims = (infilled + code_nlls, 2.0 - code_nlls, torch.ones(4, dtype=torch.long))
    monkeypatch.setattr(infilling, "hole_nlls", lambda *asked: claims)
    assert {claim.verdict for claim in infilling.holes(TINY)} == {verdict}


@pytest.mark.parametrize(
    ("costs", "verdict"), [([3.0, 2.0, 1.0], HOLDS), ([3.0, 1.0, 2.0], FAILS), ([1.0, 2.0, 3.0], FAILS)]
)
def test_size_verdicts(monkeypatch, costs, verdict) -> None:
    def code_nlls(network, data, rows, rng, *, num_retrieved):
        return costs[len(network.blocks) - 1] + torch.arange(len(rows)).double() / 100 * len(network.blocks)

    monkeypatch.setattr(sizes, "code_nlls", code_nlls)
    assert [claim.verdict for claim in sizes.perplexity(TINY)] == [verdict]


@pytest.mark.parametrize(
    ("without", "with_documents", "right", "verdicts"),
    [
        (2.0, 1.0, (0, 6), [HOLDS, HOLDS, HOLDS]),
        (1.0, 0.95, (6, 0), [FAILS, HOLDS, FAILS]),
        (1.0, 2.0, (6, 6), [FAILS] * 3),
    ],
)
def test_verdicts_with_and_without_retrieval(
    monkeypatch, fast_sampling, without, with_documents, right, verdicts
) -> None:
    """Number of correct creatures of six, and FD-cnn with and without retrieval."""
    distances, hits = iter((without, with_documents) * 2), iter(right)

    def nearest_views(images, creatures):
        number = next(hits)
        return [views(creatures[(i + (i >= number)) % len(creatures)], 1, Rng(0))[0] for i in range(len(images))]

    monkeypatch.setattr(retrieval, "nearest_views", nearest_views)
    monkeypatch.setattr(SceneJudge, "distance", lambda judge, images, real: next(distances))
    claims = [*retrieval.unseen(TINY), *retrieval.same_steps(TINY)]
    assert [claim.verdict for claim in claims] == verdicts
