"""Leaves of categories in columns of different sizes."""

import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks.blocks.leaf_codecs import TokenCodec
from feller.networks.sequence.categorical_columns import CategoricalColumns
from feller.training.losses import CrossEntropy, MaskedTokenLoss
from tests.errors import refuses

T = torch.tensor([0.2, 0.5, 0.9])


def test_columns_of_equal_size_are_tokens() -> None:
    words, symbols, x = CategoricalColumns((3, 3)), TokenCodec(3), Rng(0).stream("x").randint(4, (3, 1, 2))
    assert words.feature_dim((2,)) == symbols.feature_dim((2,))
    assert words.out_dim((2,)) == symbols.out_dim((2,))
    assert torch.equal(words.encode(x, T), symbols.encode(x, T))
    answer = Rng(0).stream("a").normal((3, 1, 6))
    assert torch.equal(words.decode(answer, x), symbols.decode(answer, x))


def test_each_column_has_its_own_categories() -> None:
    words, x = CategoricalColumns((2, 4, 1)), torch.tensor([[[1, 3, 4]], [[4, 4, 0]]])
    assert words.feature_dim((3,)) == 3 + 5 + 2
    seen = words.encode(x, T[:2])
    assert seen[:, 0].tolist() == [[0, 1, 0, 0, 0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0, 0, 1, 1, 0]]
    answer = torch.arange(14.0).reshape(2, 1, 7)
    said = words.decode(answer, x)
    assert said.shape == (2, 1, 3, 4)
    shares = said.softmax(-1)
    for row in range(2):
        first = answer[row, 0]
        for column, own in enumerate((first[:2], first[2:6], first[6:])):
            torch.testing.assert_close(shares[row, 0, column, : len(own)], own.softmax(0))
            assert (shares[row, 0, column, len(own) :] == 0).all()


def test_missing_categories_do_not_change_the_loss() -> None:
    words, target = CategoricalColumns((2, 4)), torch.tensor([[1, 3], [0, 2]])
    answer = Rng(0).stream("a").normal((2, 1, 6), torch.float64).requires_grad_()
    masked = torch.full_like(target, 4)
    said = words.decode(answer, masked[:, None])[:, 0]
    loss = MaskedTokenLoss(CrossEntropy())(said, target, masked, T[:2])
    first, second = answer[:, 0, :2].log_softmax(1), answer[:, 0, 2:].log_softmax(1)
    expected = -(first.gather(1, target[:, :1]) + second.gather(1, target[:, 1:]))[:, 0] / 2
    torch.testing.assert_close(loss, expected)
    slope, right = (torch.autograd.grad(one.sum(), answer, retain_graph=True)[0] for one in (loss, expected))
    torch.testing.assert_close(slope, right)


def test_records_and_settings_out_of_range() -> None:
    assert from_dict(CategoricalColumns, to_dict(CategoricalColumns((2, 3)))) == CategoricalColumns((2, 3))
    with refuses(UsageError):
        CategoricalColumns((2, 3)).feature_dim((3,))
    with refuses(UsageError, found="(2, 0)"):
        CategoricalColumns((2, 0))
