"""Language models of table rows against the package's own logits, restricted to the values of a table."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.models.model import Model
from feller.models.pretrained.row_language_model import RowLanguageModule
from feller.models.pretrained.row_texts import row_language_model
from feller.models.pretrained.transformers_folder import load_language_model
from feller.networks.blocks.lora import LoRA
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop, clipped_by_vmap
from feller.sampling.autoregressive.row_decoding import decode_rows
from feller.sampling.autoregressive.token_decoding import log_likelihood
from feller.training.objective import TrainingContext
from feller.training.objectives.next_token_prediction import RowLikelihood
from tests.errors import refuses
from tests.models.pretrained.tiny_text import make, save

POSITIONS = 48
N = 4000
COLUMNS = (
    Categorical("cat", ("a", "a mat", "a, mat", "mat")),
    Numerical("dog", 0.0, 29.0, bins=5, missing="NA"),
    Boolean("sat"),
)
TABLE = Table(Schema(COLUMNS))
CODES = torch.tensor([*itertools.product(*map(range, TABLE.counts))])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Language model of each name."""
    root = tmp_path_factory.mktemp("language-models")
    return {
        name: load_language_model(save(name, root / name, POSITIONS))
        for name in ("gpt2", "llama", "qwen2", "mistral", "bert")
    }


def rows_of(base: Model, table: Table = TABLE) -> tuple[Table, RowLanguageModule]:
    """Return the modality and the network of rows of a table, with the weights of a language model."""
    modality, config = row_language_model(table, base)
    network = config.build((len(config.space.vocab_sizes),), {}, Rng(0)).eval()
    network.load_state_dict(base.network.state_dict())
    return modality, network.requires_grad_(False)


def package_log_prob(name: str, network: RowLanguageModule, codes: list[int], order: tuple[int, ...]) -> float:
    """Return the log probability of a row by the package's logits of its text, one subword after another."""
    package, _ = make(name, POSITIONS)
    columns, config = network.space.columns, network.config
    prompts, ids, total = network_prompts(network), [*config.before], 0.0
    for column in order:
        ids += prompts[column]
        left = [network.order[list(sequence)].tolist() for sequence in columns[column].sequences]
        chosen = left[codes[column]]
        for i, subword in enumerate(chosen):
            choices = sorted({sequence[i] for sequence in left})
            log_probs = package(torch.tensor([ids])).logits[0, -1, choices].log_softmax(0)
            total += float(log_probs[choices.index(subword)])
            left = [sequence for sequence in left if sequence[i] == subword]
            ids.append(subword)
    return total


def network_prompts(network: RowLanguageModule) -> list[list[int]]:
    """Return the ids of the prompt of each column."""
    slots = network.is_prompt_slot
    return [network.prompt_ids[slots & (network.slot_columns == j)].tolist() for j in range(len(COLUMNS))]


def check_frequencies(rows: Tensor, all_rows: Tensor, probs: Tensor) -> None:
    """Check the frequencies of rows by a chi-square test, with a false alarm in a thousand."""
    index = (rows[:, None] == all_rows).all(-1).long()
    assert index.sum(1).eq(1).all()
    found, expected = index.argmax(1).bincount(minlength=len(all_rows)).double(), len(rows) * probs / probs.sum()
    rare = expected < 5
    found, expected = (torch.cat([x[~rare], x[rare].sum()[None] + 1e-9]) for x in (found, expected))
    assert chisquare(found.numpy(), (expected / expected.sum() * found.sum()).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_log_prob_is_that_of_the_package_among_valid_values(name: str, models: dict[str, Model]) -> None:
    modality, network = rows_of(models[name])
    x = modality.encode(CODES)
    assert torch.equal(modality.decode(x), CODES)
    for order in ((0, 1, 2), (2, 0, 1)):
        cond = {"order": torch.tensor(order).expand(len(x), -1)}
        log_probs = log_likelihood(network, x, cond)
        assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)
        for row in (0, 17, len(x) - 1):
            expected = package_log_prob(name, network, CODES[row].tolist(), order)
            assert log_probs[row].item() == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(
        log_likelihood(network, x, {}), log_likelihood(network, x, {"order": CODES * 0 + torch.arange(3)})
    )


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_samples_have_the_probabilities(name: str, models: dict[str, Model]) -> None:
    modality, network = rows_of(models[name])
    x = modality.encode(CODES)
    probs = log_likelihood(network, x, {}).exp()
    check_frequencies(decode_rows(network, N, Rng(1), any_order=False), x, probs)
    known = CODES[:, 0] == 2  # a prefix of the row
    observed = modality.observed_tokens(
        CODES[known][:1].expand(N, -1), torch.tensor([True, False, False]).expand(N, -1)
    )
    check_frequencies(decode_rows(network, N, Rng(2), observed=observed, any_order=False), x[known], probs[known])
    known = CODES[:, 1] == 5  # a missing cell in the middle comes first
    order = torch.tensor([1, 0, 2]).expand(int(known.sum()), -1)
    probs = log_likelihood(network, x[known], {"order": order}).exp()
    observed = modality.observed_tokens(
        CODES[known][:1].expand(N, -1), torch.tensor([False, True, False]).expand(N, -1)
    )
    check_frequencies(decode_rows(network, N, Rng(3), observed=observed), x[known], probs)


def test_missing_cells_are_excluded_exactly(models: dict[str, Model]) -> None:
    modality, network = rows_of(models["gpt2"])
    is_known = CODES[:, 1] != TABLE.counts[1] - 1
    x = modality.encode(CODES[is_known])
    rows = decode_rows(network, N, Rng(4), any_order=False, forbidden=modality.missing_tokens)
    codes, first = modality.decode(rows), log_likelihood(network, modality.encode(CODES), {}).exp()
    probs = torch.zeros(len(x), dtype=torch.float64)
    for i, row in enumerate(CODES[is_known].tolist()):  # p(first) p(second | first, not missing) p(third | both)
        same = (CODES[:, 0] == row[0]) & is_known
        probs[i] = (
            first[CODES[:, 0] == row[0]].sum() * first[(torch.tensor(row) == CODES).all(1)][0] / first[same].sum()
        )
    check_frequencies(rows, x, probs)
    assert int(codes[:, 1].max()) < TABLE.counts[1] - 1


def test_rules_between_columns_of_several_subwords(models: dict[str, Model]) -> None:
    rules = (Constraint("cat", ("a", "a, mat"), "dog", ("< 12",)), Constraint("sat", ("True",), "dog", (">= 6",)))
    table = replace(TABLE, schema=replace(TABLE.schema, rules=rules))
    modality, network = rows_of(models["gpt2"], table)
    assert max(modality.space().tokens_per_column) > 1
    is_valid = torch.ones(len(CODES), dtype=torch.bool)
    for pair in table.schema.pairs:
        is_valid &= torch.as_tensor(pair.allowed)[CODES[:, pair.first], CODES[:, pair.second]]
    assert 0 < is_valid.sum() < len(CODES)
    x = modality.encode(CODES)
    for order in itertools.permutations(range(3)):
        probs = log_likelihood(network, x, {"order": torch.tensor(order).expand(len(x), -1)}).exp()
        assert probs[~is_valid].sum() == 0
        assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    probs = log_likelihood(network, x, {}).exp()
    check_frequencies(decode_rows(network, N, Rng(5), any_order=False), x[is_valid], probs[is_valid])


def test_decoded_logits_do_not_depend_on_other_rows(models: dict[str, Model]) -> None:
    modality, network = rows_of(models["llama"])
    many = decode_rows(network, 64, Rng(6), any_order=False)
    network.rows_per_call = 7
    assert torch.equal(decode_rows(network, 64, Rng(6), any_order=False), many)
    x = modality.encode(CODES)
    parts = log_likelihood(network, x, {})
    network.rows_per_call = len(x)
    torch.testing.assert_close(log_likelihood(network, x, {}), parts, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "rank"), [("gpt2", None), ("gpt2", 2), ("llama", 2)])
@pytest.mark.parametrize("shuffle_prob", [0.0, 1.0])
def test_per_example_gradients(name: str, rank: int | None, shuffle_prob: float, models: dict[str, Model]) -> None:
    modality, network = rows_of(models[name])
    trained: torch.nn.Module = network.requires_grad_(True)
    if rank is not None:
        trained = LoRA(network, rank, Rng(0))
        for factor in trained.lora_B.values():
            torch.nn.init.constant_(factor, 0.1)
    objective = RowLikelihood(modality.space(), shuffle_prob=shuffle_prob, num_orders=2).build(TrainingContext())
    example = objective.draw({"x_1": modality.encode(CODES[[0, 20, 47]])}, Rng(0), trained)
    expected = clipped_by_loop(objective.loss, trained, example, 0.5)
    clipped = clipped_by_vmap(objective.loss, trained, example, 0.5)
    assert expected.norms.min() > 0.5
    for key, value in expected.sums.items():
        torch.testing.assert_close(clipped.sums[key], value, atol=1e-5, rtol=1e-4)


def lower_cased(base: Model) -> Model:
    """Return a model whose tokenizer does not tell upper and lower case apart."""
    text: Any = base.spec.modality
    record = text.vocabulary.tokenizer.replace('"normalizer":null', '"normalizer":{"type":"Lowercase"}')
    record = record.replace('"normalizer": null', '"normalizer": {"type": "Lowercase"}')
    assert record != text.vocabulary.tokenizer
    vocabulary = replace(text.vocabulary, tokenizer=record)
    return Model.from_spec(replace(base.spec, modality=replace(text, vocabulary=vocabulary)), base.network)


def test_values_that_a_tokenizer_does_not_tell_apart(models: dict[str, Model]) -> None:
    table = Table(Schema((Categorical("cat", ("mat", "Mat")),)))
    assert rows_of(models["gpt2"], table)[0].space().vocab_sizes == (2,)
    with refuses(InputError, column="cat"):
        row_language_model(table, lower_cased(models["gpt2"]))


def test_refused_models_and_rows(models: dict[str, Model]) -> None:
    with refuses(UsageError, argument="start_from"):
        row_language_model(TABLE, models["bert"])
    with refuses(UsageError, argument="start_from"):  # its attention does not reach over a row
        row_language_model(TABLE, models["mistral"])
    long = Table(Schema((*COLUMNS, Categorical("house", ("the bird flew over a house" * 3, "over")))))
    with refuses(UsageError, argument="start_from"):
        row_language_model(long, models["gpt2"])
    modality, config = row_language_model(TABLE, models["gpt2"])
    with refuses(UsageError):
        config.build((1,), {}, Rng(0))
    with refuses(UsageError, argument="space"):
        replace(config, space=TABLE.space())
    with refuses(UsageError, argument="prompts"):
        replace(config, prompts=config.prompts[:2])
    with refuses(InputError, argument="tokenizers"):
        replace(modality, tokenizers=modality.tokenizers[:2])
    assert modality.by_levels() == TABLE


def test_values_begin_apart_from_missing_cells(models: dict[str, Model]) -> None:
    words = ("NA", "missing", "unknown", "none", "empty", "?")
    columns = [Categorical("cat", words[:n], missing="") for n in range(1, len(words) + 1)]
    for column in columns[:-1]:
        field = row_language_model(Table(Schema((column,))), models["gpt2"])[0].tokenizers[0]
        first = field.encode(torch.arange(field.num_values))[:, 0]
        assert (first == first[-1]).sum() == 1
    with refuses(InputError, column="cat"):
        row_language_model(Table(Schema((columns[-1],))), models["gpt2"])
