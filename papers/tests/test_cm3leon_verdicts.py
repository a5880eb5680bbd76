"""Verdicts of the claims of CM3Leon: their form, and for each a case that holds and one that does not."""

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
def quick_drawing(monkeypatch) -> None:
    """Draw codes and words by chance in the place of what a network says: checked calls take a fifth of a second."""

    def drawn(network, prompts, goal, rng, *, specs, batch_size):
        symbols, n = network.vocabulary, len(prompts[0])
        assert len(prompts) == max(spec.guidance.num_streams for spec in specs)
        if isinstance(goal, ImageGoal):
            codes = symbols.text + rng.stream("codes").randint(symbols.codes, (n, symbols.picture))
            return [torch.cat([row, torch.tensor([symbols.break_token])]) for row in codes]
        letters = rng.stream("letters").randint(symbols.text, (n, 4))
        return [torch.cat([row, torch.tensor([symbols.eos])]) for row in letters]

    monkeypatch.setattr(asking, "generate", drawn)


@pytest.mark.parametrize("test", CLAIM_TESTS, ids=lambda test: f"{test.__module__.rpartition('.')[2]}.{test.__name__}")
def test_each_claim_has_its_form(test, quick_drawing) -> None:
    claims = list(test(TINY))
    assert claims
    for claim in claims:
        assert isinstance(claim, Claim)
        assert claim.verdict in (HOLDS, FAILS)
        assert "1 seed" in claim.spread
        assert "nan" not in claim.ours
        assert "\n" not in claim.claim + claim.paper + claim.ours + claim.spread


@pytest.mark.parametrize(("known", "verdict"), [(0.2, FAILS), (1.0, HOLDS)])
def test_a_model_that_needs_no_picture_has_learned_nothing(monkeypatch, known: float, verdict: str) -> None:
    """Before tuning all is wrong; then a model answers as often right as the commonest answer, or always."""
    marks = iter([torch.zeros(100).double(), (torch.arange(100) < 100 * known).double()])
    usual = ("the commonest answer", 20 * [1.0] + 80 * [0.0])
    metric = tuning.TaskMetric("answers", lambda *asked: next(marks), lambda documents: usual)
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
def test_orderings_are_told_from_others(monkeypatch, costs, verdicts) -> None:
    def given(network, data, rows, rng, *, num_retrieved=0, retriever=None):
        noise = 0.01 * torch.arange(len(rows)).double()
        return costs["chance" if retriever is not None else num_retrieved] + noise * (1 + num_retrieved)

    monkeypatch.setattr(retrieval, "code_nlls", given)
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
def test_guidance_among_all_and_among_plausible_symbols(monkeypatch, others, plausible, verdicts) -> None:
    """FD-cnn and accuracy by weight: a U or none, rising or not; last the mean accuracy above weight 1."""
    setting = replace(TINY, weights=(1.0, 3.0, 5.0)[: len(plausible)])
    monkeypatch.setattr(
        guidance, "sweep", lambda setting, seed, dial, among: plausible if guidance.SYMBOL_SETS[among][0] else others
    )
    assert [claim.verdict for claim in guidance.weights(setting)] == verdicts


@pytest.mark.parametrize(
    ("best", "verdict"),
    [((1, 1, 1), FAILS), ((1, 2, 2), HOLDS), ((2, 2, 2), HOLDS), ((1, 3, 2), FAILS), ((3, 3, 3), FAILS)],
)
def test_the_best_weight_for_each_size(monkeypatch, best, verdict) -> None:
    """The same or neighbours, and not 1 for all, nor the largest."""
    setting = replace(TINY, weights=(1.0, 2.0, 3.0))

    def sweep(setting, seed, dial, among):
        return [(float(w != best[dial - 1]), 0.5) for w in setting.guidance_weights]

    monkeypatch.setattr(guidance, "sweep", sweep)
    assert [claim.verdict for claim in guidance.sizes(setting)] == 3 * [verdict]


@pytest.mark.parametrize(
    ("alone", "kept", "verdicts"),
    [
        ([1.0, 1.2], [1.0, 1.1, 0.9], [HOLDS, HOLDS]),
        ([1.3, 1.0], [1.0, 1.1, 0.95], [FAILS, FAILS]),
        ([1.0, 1.3], [1.1, 0.8, 0.9], [FAILS, FAILS]),
    ],
)
def test_mixtures_are_held_against_the_better_half(monkeypatch, alone, kept, verdicts) -> None:
    """FD-cnn of contrastive decoding and top-p; then of the best of each, and of both: a tenth below both holds."""
    monkeypatch.setattr(contrast, "_evaluate_mixture", lambda setting, seed, way: (alone, kept))
    assert [claim.verdict for claim in contrast.mixture(TINY)] == 2 * verdicts


@pytest.mark.parametrize(
    ("each", "verdict"),
    [((1, 2), HOLDS), ((2, 2), FAILS), ((1, 1), FAILS)],
)
def test_diversity_by_the_number_of_different_pictures(monkeypatch, each, verdict) -> None:
    """Of two pictures of each prompt one or both are different, with k = 1 and with k = 4."""
    left = iter(each)

    def drawn(network, data, documents, rng, *, specs):
        number = torch.arange(len(documents)).remainder(next(left)).byte()
        return number[:, None, None, None].expand(-1, 3, 16, 16)

    monkeypatch.setattr(contrast, "sample_images", drawn)
    assert [claim.verdict for claim in contrast.diversity(TINY)] == [verdict]
    assert contrast._diversity(
        torch.tensor([0, 0, 1, 1]).byte()[:, None, None, None].expand(-1, 3, 16, 16), 4
    ) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("told", "blind", "verdict"), [("right", "wrong", HOLDS), ("wrong", "right", FAILS), ("right", "right", FAILS)]
)
def test_captions_are_held_against_those_of_other_pictures(monkeypatch, told, blind, verdict) -> None:
    answers = iter((told, blind))

    def fill_text(network, data, requests, rng):
        right = next(answers) == "right"
        return [text_request(one)[1] if right else "of nothing" for one in data.test_scenes.documents[: len(requests)]]

    monkeypatch.setattr(infilling, "fill_text", fill_text)
    assert [claim.verdict for claim in infilling.captions(TINY)] == [verdict]


@pytest.mark.parametrize(("filled", "verdict"), [(1.0, HOLDS), (2.0, FAILS), (3.0, FAILS)])
def test_holes_that_cost_less(monkeypatch, filled, verdict) -> None:
    code_nlls = torch.arange(4).double() / 100
    claims = (filled + code_nlls, 2.0 - code_nlls, torch.ones(4, dtype=torch.long))
    monkeypatch.setattr(infilling, "hole_nlls", lambda *asked: claims)
    assert {claim.verdict for claim in infilling.holes(TINY)} == {verdict}


@pytest.mark.parametrize(
    ("costs", "verdict"), [([3.0, 2.0, 1.0], HOLDS), ([3.0, 1.0, 2.0], FAILS), ([1.0, 2.0, 3.0], FAILS)]
)
def test_larger_ones_that_know_more(monkeypatch, costs, verdict) -> None:
    def given(network, data, rows, rng, *, num_retrieved):
        return costs[len(network.blocks) - 1] + torch.arange(len(rows)).double() / 100 * len(network.blocks)

    monkeypatch.setattr(sizes, "code_nlls", given)
    assert [claim.verdict for claim in sizes.perplexity(TINY)] == [verdict]


@pytest.mark.parametrize(
    ("without", "beside", "right", "verdicts"),
    [
        (2.0, 1.0, (0, 6), [HOLDS, HOLDS, HOLDS]),
        (1.0, 0.95, (6, 0), [FAILS, HOLDS, FAILS]),
        (1.0, 2.0, (6, 6), [FAILS] * 3),
    ],
)
def test_pictures_with_a_memory_and_without(monkeypatch, quick_drawing, without, beside, right, verdicts) -> None:
    """How many of six creatures are drawn right, and FD-cnn, which falls, and falls by a tenth."""
    far, hits = iter((without, beside) * 2), iter(right)

    def spotted(drawn, creatures):
        number = next(hits)
        return [views(creatures[(i + (i >= number)) % len(creatures)], 1, Rng(0))[0] for i in range(len(drawn))]

    monkeypatch.setattr(retrieval, "nearest_views", spotted)
    monkeypatch.setattr(SceneJudge, "distance", lambda judge, drawn, real: next(far))
    claims = [*retrieval.unseen(TINY), *retrieval.same_steps(TINY)]
    assert [claim.verdict for claim in claims] == verdicts
