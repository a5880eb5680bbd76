"""Causal masked language modelling of documents with retrieval."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.networks import GPT, BiEncoder, LearnedDocumentEncoder
from feller.sampling.autoregressive.masked_spans import SpanMasking, read_document, restore_spans
from feller.sampling.retrieval.datastore import create_datastore
from feller.sampling.retrieval.retriever import IndexedDatastore, RandomRetriever, SimilarityRetriever
from feller.spaces import Tokens
from feller.training.objective import Example, Objective, TrainingContext
from feller.training.objectives.causal_masked_lm import CausalMaskedLM, RetrievalCausalMaskedLM
from tests.errors import numbers, refuses
from tests.oracle import close
from tests.sampling.autoregressive.pages import S, pages, rows_of

SPACE = Tokens(S.num_data_tokens, (32,))
FINDER = LearnedDocumentEncoder(BiEncoder(S, (4, 4), width=8, size=64))
WHOLE = SpanMasking(span_prob=0.0, text_prob=0.0)


def objective(**changes: Any) -> CausalMaskedLM:
    return CausalMaskedLM(SPACE, S, **{"context": 160, "row_length": 160, **changes})


def draw(rule: Objective, rows: Tensor, seed: int = 0) -> Example:
    return rule.draw({"x_1": rows}, Rng(seed))


def samples(example: Example) -> list[list[np.ndarray]]:
    """Return the documents of each packed sample, rejoined, without the last <eos>."""
    found = []
    for row, own in zip(example["x_t"].numpy(), example["given"]["sample"].numpy(), strict=True):
        for k in range(own.max() + 1):
            tokens = row[own == k]
            assert tokens[0] == tokens[-1] == S.eos
            ends = np.flatnonzero(tokens == S.eos)
            found.append([restore_spans(tokens[a:b], S) for a, b in pairwise(ends)])
    return found


def plain(rows: Tensor) -> list[list[int]]:
    return [read_document(row, S).tokens.tolist() for row in rows.numpy()]


def logits_of(x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Return logits that depend on token, sample and position."""
    at = x_t * 31 + given["sample"] * 7 + given["position"]
    return torch.sin(at[..., None] * torch.arange(1, S.num_outputs + 1, dtype=torch.float64))


@pytest.mark.parametrize(
    "masking", [SpanMasking(), SpanMasking(span_prob=0.0), SpanMasking(text_prob=0.0, mean=6.0), WHOLE]
)
def test_every_document_occurs_once_and_is_restored(masking: SpanMasking) -> None:
    rows, _ = rows_of(40, 12)
    found = samples(draw(objective(masking=masking), rows))
    assert sorted(one.tolist() for (one,) in found) == sorted(plain(rows))


def test_documents_that_may_exceed_the_context_are_refused() -> None:
    """A text that is hidden as a whole takes two places more, sixteen spans 32."""
    rows, _ = rows_of(4, 12)
    data = pages(rows)
    length = int((rows < S.num_outputs).sum(1).max())
    for law, more in ((SpanMasking(span_prob=0.0), 2), (SpanMasking(), 32), (WHOLE, 0)):
        most = length + 1 + more
        assert objective(context=most, masking=law, max_retrieved=0).build(TrainingContext(data=data))
        with refuses(InputError) as caught:
            objective(context=most - 1, masking=law, max_retrieved=0).build(TrainingContext(data=data))
        assert numbers(caught.value.message)[:1] == [str(most)]


def test_networks_of_another_context_or_vocabulary_are_refused() -> None:
    rows, _ = rows_of(4, 12)
    for network in (GPT(S, 8, 1, 1, 159), GPT(replace(S, text=S.text + 1), 8, 1, 1, 160)):
        with refuses(UsageError):
            objective().draw({"x_1": rows}, Rng(0), network.build((160,), {}, Rng(0)))


def test_predicted_tokens_and_weights() -> None:
    rows, _ = rows_of(40, 12)
    example = draw(objective(), rows)
    x_t, target, weight, sample = *(example[name] for name in ("x_t", "target", "weight")), example["given"]["sample"]
    following = torch.cat([x_t[:, 1:], x_t[:, :1]], 1)
    within = torch.cat([sample[:, 1:] == sample[:, :-1], torch.zeros(len(sample), 1, dtype=torch.bool)], 1)
    counts = within & (sample >= 0) & (following != S.mask) & (following != S.infill)
    assert torch.equal(weight > 0, counts)
    assert torch.equal(target[counts], following[counts])
    assert int(target.max()) < S.num_outputs
    assert len(weight[counts].unique()) == 1
    assert float(weight.sum()) == pytest.approx(40, rel=1e-5)


def test_loss_is_the_mean_per_token() -> None:
    """The trainer divides by the number of documents, not of packed rows."""
    rows, _ = rows_of(40, 12)
    example = draw(objective(), rows)
    loss = objective().loss(logits_of, example)
    assert loss.shape == (len(example["x_t"]),)
    logits = logits_of(example["x_t"], example["t"], example["given"])
    spent = -logits.log_softmax(-1).gather(-1, example["target"][..., None])[..., 0]
    close(loss.sum() / 40, spent[example["weight"] > 0].mean(), 1e-6)


def test_packing_does_not_change_the_loss() -> None:
    rows, _ = rows_of(12, 12)
    example = draw(objective(masking=WHOLE), rows)
    alone = draw(objective(masking=WHOLE, context=30, row_length=30), rows)
    assert len(alone["x_t"]) == 12 > len(example["x_t"])

    def without_numbers(x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return logits_of(x_t, t, {**given, "sample": torch.zeros_like(x_t)})

    close(*(objective().loss(without_numbers, one).sum() for one in (example, alone)), 1e-5)


def test_answers_follow_the_image() -> None:
    """Symbols 3 and 4 of each text are marked: there is a hole in their place, and they come last."""
    rows, _ = rows_of(6, 12)
    mark, end = (rows.new_full((6, 1), symbol) for symbol in (S.answer_start, S.answer_end))
    marked = torch.cat([rows[:, :4], mark, rows[:, 4:6], end, rows[:, 6:]], 1)
    example = draw(objective(masking=SpanMasking(text_prob=1.0), context=33, row_length=33), marked)
    found = []
    for row in example["x_t"]:
        own = row[row != S.pad].tolist()
        assert own[4] == S.mask
        assert own[10] == own[27] == S.break_token
        assert own[28] == S.infill
        assert own[31:] == [S.eos]
        found.append(own[:4] + own[29:31] + own[5:28])
    assert sorted(found) == sorted(rows[:, :29].tolist())
    assert sorted(one.tolist() for (one,) in samples(example)) == sorted(plain(rows))


def test_masked_whole_texts_leave_the_unconditional_prompt() -> None:
    rows, _ = rows_of(10, 12)
    x_t = draw(objective(masking=SpanMasking(span_prob=0.0, text_prob=1.0), context=40, row_length=40), rows)["x_t"]
    assert (x_t[:, :3] == torch.tensor([S.eos, S.mask, S.break_token])).all()
    assert S.is_code(x_t[:, 3:19]).all()


def with_memory(rule: CausalMaskedLM, n: int = 80) -> tuple[Objective, list[list[int]]]:
    memory, _ = rows_of(n, 12, seed=3)
    return RetrievalCausalMaskedLM(rule, IndexedDatastore(create_datastore(memory, FINDER, S), FINDER)), plain(memory)


def test_retrieved_documents_are_whole_and_not_the_query() -> None:
    """None, one or two, each a third of 600 times, 5 standard errors; none is the query, all are whole."""
    rule, known = with_memory(objective(retrieval=RandomRetriever()))
    rows, _ = rows_of(600, 12, seed=3)  # the first 80 are those of the memory
    found = samples(draw(rule, rows))
    assert sorted(sample[-1].tolist() for sample in found) == sorted(plain(rows))
    for *front, query in found:
        for one in front:
            assert one.tolist() in known
            assert one.tolist() != query.tolist()
    number = np.array([len(sample) - 1 for sample in found])
    for k in range(3):
        assert abs((number == k).mean() - 1 / 3) < 5 * math.sqrt(2 / 9 / 600)


def test_retrieved_documents_may_be_masked() -> None:
    rule, known = with_memory(
        objective(masking=WHOLE, context_masking=SpanMasking(text_prob=0.0), retrieval=RandomRetriever())
    )
    rows, _ = rows_of(60, 12, seed=5)
    example = draw(rule, rows)
    found = samples(example)
    assert all(one.tolist() in known for *front, _ in found for one in front)
    assert int((example["x_t"] == S.infill).sum()) >= sum(len(sample) - 1 for sample in found) > 0
    none = draw(with_memory(objective(masking=WHOLE, retrieval=RandomRetriever()))[0], rows)
    assert int((none["x_t"] == S.infill).sum()) == 0


def test_the_most_similar_document_is_last() -> None:
    rule = SimilarityRetriever(query_dropout=0.0, by_picture=0, max_score=1.0, dedup=1.0)
    finding, known = with_memory(objective(retrieval=rule, masking=WHOLE))
    rows, _ = rows_of(40, 12, seed=6)
    memory, _ = rows_of(80, 12, seed=3)
    vectors, whole = FINDER(rows), FINDER(memory).whole()
    scores = vectors.text @ whole.T
    queries = plain(rows)
    checked = 0
    for *front, query in samples(draw(finding, rows)):
        told = [float(scores[queries.index(query.tolist()), known.index(one.tolist())]) for one in front]
        assert told == sorted(told)
        checked += len(told) == 2
    assert checked > 3


def test_retrieved_documents_are_dropped_to_fit_the_context() -> None:
    rule, _ = with_memory(objective(retrieval=RandomRetriever(), masking=WHOLE, context=60, max_retrieved=5))
    rows, _ = rows_of(40, 12, seed=6)
    number = [len(sample) - 1 for sample in samples(draw(rule, rows))]
    assert set(number) == {0, 1}
    with refuses(InputError) as caught:
        draw(objective(masking=WHOLE, context=29), rows)
    assert numbers(caught.value.message)[:2] == ["30", "29"]


def test_datastores_of_the_data_are_used() -> None:
    rows, _ = rows_of(20, 12)
    rule = objective()
    assert rule.build(TrainingContext(data=pages(rows))) is rule
    assert objective(max_retrieved=0).build(TrainingContext(data=pages(rows, FINDER))) == objective(max_retrieved=0)
    finding = rule.build(TrainingContext(data=pages(rows, FINDER)))
    found = samples(draw(finding, rows))
    assert sorted(sample[-1].tolist() for sample in found) == sorted(plain(rows))
    assert any(len(sample) > 1 for sample in found)
    assert all(sample[-1].tolist() != one.tolist() for sample in found for one in sample[:-1])


def test_samples_do_not_depend_on_the_batch() -> None:
    rule, _ = with_memory(objective())
    rows, _ = rows_of(40, 12, seed=6)

    def documents(example: Example) -> list[list[int]]:
        pairs = zip(example["x_t"].tolist(), example["given"]["sample"].tolist(), strict=True)
        return [[x for x, k in zip(row, own, strict=True) if k == i] for row, own in pairs for i in range(max(own) + 1)]

    whole = documents(rule.draw({"x_1": rows}, Rng(0)))
    parts = [documents(rule.draw({"x_1": rows[a:b]}, Rng(0, first_example=a))) for a, b in ((0, 13), (13, 40))]
    assert sorted(whole) == sorted(parts[0] + parts[1])


def test_metrics_and_settings_out_of_range() -> None:
    rows, _ = rows_of(40, 12)
    example = draw(objective(), rows)
    share = (example["given"]["sample"] < 0).double().mean()
    assert objective().metrics(example) == {"wasted": share}
    assert draw(objective(), rows[:0])["x_t"].shape[0] == 0
    for wrong in ({"context": 1}, {"max_retrieved": -1}):
        with refuses(UsageError):
            replace(objective(), **wrong)
