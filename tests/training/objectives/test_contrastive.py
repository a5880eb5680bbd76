"""InfoNCE between texts and images."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.networks import BiEncoder, LearnedDocumentEncoder
from feller.spaces import Tokens
from feller.training.objective import TrainingContext
from feller.training.objectives.contrastive import InfoNCE
from tests.errors import refuses
from tests.oracle import close
from tests.sampling.autoregressive.pages import S, pages, rows_of

SPACE = Tokens(S.num_data_tokens, (32,))


def finder() -> LearnedDocumentEncoder:
    return LearnedDocumentEncoder(BiEncoder(S, (4, 4), width=8, size=64))


def objective(group: int = 64, dropout: float = 0.0) -> InfoNCE:
    return InfoNCE(SPACE, S, group, dropout)


@pytest.mark.parametrize(("group", "size"), [(5, 4), (11, 6), (12, 12), (64, 12)])
def test_loss_is_symmetric_info_nce(group: int, size: int) -> None:
    network, (rows, _) = finder().module, rows_of(12, 1000)
    rule = objective(group)
    example = rule.draw({"x_1": rows}, Rng(0), network)
    found = rule.loss(network, example)
    assert found.shape == (-(-12 // group),)
    made = finder()
    made.module.load_state_dict(network.state_dict())
    vectors = made(rows)
    total = 0.0
    for part in torch.arange(12).split(size):
        scores = vectors.picture[part] @ vectors.text[part].T / 0.07
        for i in range(len(part)):
            total += float(scores[i].logsumexp(0) + scores[:, i].logsumexp(0) - 2 * scores[i, i]) / 2
    assert found.sum().item() / 12 == pytest.approx(total / 12, rel=1e-4)


def test_documents_without_a_pair_are_ignored() -> None:
    network, (rows, _) = finder().module, rows_of(8, 1000)
    alone = rows.clone()
    alone[2, 1:11], alone[5, 12:28] = S.pad, S.pad
    for row in (2, 5):
        alone[row] = alone[row][(alone[row] == S.pad).long().argsort(stable=True)]
    keep = torch.tensor([0, 1, 3, 4, 6, 7])
    some = objective().loss(network, objective().draw({"x_1": alone}, Rng(0), network)).sum() / 8
    rest = objective().loss(network, objective().draw({"x_1": alone[keep]}, Rng(0), network)).sum() / 6
    close(some, rest, 1e-5)
    none = objective().loss(network, objective().draw({"x_1": alone[[2, 5]]}, Rng(0), network))
    assert none.tolist() == [0.0]


def test_equal_texts_are_not_negatives() -> None:
    network, (rows, _) = finder().module, rows_of(6, 1000)
    rows[:, 1:11] = rows[0, 1:11]
    loss = objective().loss(network, objective().draw({"x_1": rows}, Rng(0), network))
    close(loss, torch.zeros(1), 1e-6)


def test_one_of_several_images_is_sampled() -> None:
    """600 documents with two pictures: each half the time, 5 standard errors."""
    rows, _ = rows_of(600, 1000)
    both = torch.cat([rows[:, :29], S.text + (rows[:, 12:28] - S.text + 1) % S.codes, rows[:, 28:29]], 1)
    example = objective().draw({"x_1": both}, Rng(0), finder().module)
    codes = example["x_t"].flatten(0, 1)[:600]
    first = (codes == both[:, 12:28] - S.text).all(1)
    assert (first | (codes == both[:, 29:45] - S.text).all(1)).all()
    assert abs(first.double().mean() - 0.5) < 5 * 0.5 / 600**0.5


def test_code_dropout() -> None:
    """9,600 codes, 5 standard errors."""
    rows, _ = rows_of(600, 1000)
    codes = objective(dropout=0.2).draw({"x_1": rows}, Rng(0), finder().module)["x_t"].flatten(0, 1)[:600]
    assert abs((codes == S.codes).double().mean() - 0.2) < 5 * (0.16 / codes.numel()) ** 0.5


def likeness(made: LearnedDocumentEncoder, rows: Tensor, kind: Tensor) -> float:
    """Return the fraction of images whose nearest text of another document is of the same class."""
    found = made(rows)
    scores = (found.picture @ found.text.T).fill_diagonal_(-2.0)
    return (kind[scores.argmax(1)] == kind).double().mean().item()


def test_training_aligns_images_and_texts() -> None:
    """12 kinds; a new network finds about 1 in 12, a trained one most, of documents that it has not seen."""
    made = finder()
    network, (rows, _) = made.module, rows_of(600, 12)
    network.text_encoder.update_counts(rows)
    test, kind = rows_of(200, 12, seed=1)
    assert likeness(made, test, kind) < 0.3
    rule, optimiser = objective(dropout=0.2), torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(50):
        batch = {"x_1": rows[torch.arange(64 * step, 64 * (step + 1)) % 600]}
        loss = rule.loss(network, rule.draw(batch, Rng(step), network)).sum() / 64
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert likeness(made, test, kind) > 0.8


def test_data_without_pairs_are_refused() -> None:
    rows, _ = rows_of(4, 1000)
    assert objective().build(TrainingContext(data=pages(rows))) == objective()
    rows[:, 12:] = S.pad
    with refuses(InputError):
        objective().build(TrainingContext(data=pages(rows)))
    for wrong in ((1, 0.0), (8, 1.0)):
        with refuses(UsageError, found="1"):
            objective(*wrong)
