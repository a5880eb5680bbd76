"""Log-likelihood of documents."""

import math

import pytest
import torch

from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.document_decoding import infill_mask, log_likelihood, predicted_mask
from tests.sampling.autoregressive.readers import reader, written

SYMBOLS = DocumentVocabulary(text=3, codes=2, picture=3)
ROWS = torch.stack(
    [
        written(row, SYMBOLS)
        for row in ("E ab B 010 B E PPPP", "E M B 0M0 B I ab I 1 E", "E aM B I b E c B PPPP", "E PPPP PPPP PPPP")
    ]
)


def test_log_likelihood_is_the_sum_over_tokens() -> None:
    network = reader(SYMBOLS)
    everything = torch.ones_like(ROWS, dtype=torch.bool)
    found = log_likelihood(network, ROWS, everything, SYMBOLS)
    assert found.dtype == torch.float64
    for row, total in zip(ROWS, found.tolist(), strict=True):
        n = int((row != SYMBOLS.pad).sum())
        log_p = network(row[None, :n], torch.zeros(1), {})[0].log_softmax(1)
        wanted = sum(
            log_p[i - 1, row[i]].item() for i in range(1, n) if int(row[i]) not in (SYMBOLS.mask, SYMBOLS.infill)
        )
        assert total == pytest.approx(wanted, abs=1e-10)
    assert found[3] == 0


def test_parts_add_up_in_batches_of_any_size() -> None:
    network = reader(SYMBOLS)
    parts = [
        SYMBOLS.is_text(ROWS),
        SYMBOLS.is_code(ROWS),
        torch.isin(ROWS, torch.tensor([SYMBOLS.break_token, SYMBOLS.eos])),
    ]
    whole = log_likelihood(network, ROWS, predicted_mask(ROWS, SYMBOLS), SYMBOLS)
    several = [log_likelihood(network, ROWS, part, SYMBOLS, batch_size=3) for part in parts]
    torch.testing.assert_close(sum(several), whole)
    assert [(part < 0).tolist() for part in several[:2]] == [[True] * 3 + [False], [True] * 2 + [False] * 2]
    alone = [log_likelihood(network, ROWS[i : i + 1], parts[0][i : i + 1], SYMBOLS) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), several[0])


def test_uniform_logits_have_the_perplexity_of_the_vocabulary() -> None:
    def network(x, t, given):
        return torch.zeros(*x.shape, SYMBOLS.num_outputs)

    marks = predicted_mask(ROWS, SYMBOLS)
    total = log_likelihood(network, ROWS, marks, SYMBOLS)
    assert marks.sum(1).tolist() == [8, 8, 6, 0]
    torch.testing.assert_close(total, -marks.sum(1).double() * math.log(SYMBOLS.num_outputs))


def test_infill_mask() -> None:
    marks = infill_mask(ROWS, SYMBOLS)
    assert [row[mark].tolist() for row, mark in zip(ROWS, marks, strict=True)] == [[], [0, 1, 4], [1], []]


def test_empty_batches_and_masks() -> None:
    network = reader(SYMBOLS)
    none = torch.zeros_like(ROWS, dtype=torch.bool)
    assert log_likelihood(network, ROWS[:0], none[:0], SYMBOLS).shape == (0,)
    assert log_likelihood(network, ROWS, none, SYMBOLS).tolist() == [0] * 4
