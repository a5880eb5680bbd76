"""Retrieval of documents: exclusions, sampling, datastore files."""

import math
import pathlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.documents.document_encoder import DocumentEmbeddings, DocumentEncoder
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.sequence.bi_encoder import extract_images
from feller.sampling.retrieval.datastore import (
    ANEW,
    DatastoreOrigin,
    create_datastore,
    fingerprints,
    load_datastore,
    save_datastore,
)
from feller.sampling.retrieval.retriever import (
    NO_DOCUMENT,
    IndexedDatastore,
    RandomRetriever,
    RetrievedDocuments,
    Retriever,
    SimilarityRetriever,
)
from feller.sampling.retrieval.vector_index import ExactIndex
from tests.errors import numbers, refuses
from tests.oracle import close

S = DocumentVocabulary(text=1000, codes=1000, picture=1)
MAKERS = DatastoreOrigin("palette-1", "letters-2", "encoder-3")
ALL = SimilarityRetriever(max_score=1.0, dedup=1.0, query_dropout=0.0, by_text=0, by_picture=4)


@dataclass(frozen=True)
class Table(DocumentEncoder):
    """Embed texts and images of one token each by a table; zeros for a missing modality."""

    table: Tensor

    @property
    def module(self) -> nn.Module:
        return nn.Identity()

    @property
    def name(self) -> str:
        return "table"

    def __call__(self, rows: Int64[Tensor, "n l"]) -> DocumentEmbeddings:
        codes, owner = extract_images(rows, S)
        text = torch.zeros(len(rows), self.table.shape[1])
        picture = text.clone()
        which, place = S.is_text(rows).nonzero(as_tuple=True)
        text[which] = self.table[rows[which, place]]
        picture[owner] = self.table[codes[:, 0]] if len(codes) else picture[owner]
        has = S.is_text(rows).any(1)
        return DocumentEmbeddings(text, picture, has, has.new_zeros(len(rows)).index_fill(0, owner, True))


def angle(*degrees: float) -> Table:
    """Return an encoder with unit vectors of the plane at these angles."""
    turns = torch.tensor(degrees).deg2rad()
    return Table(torch.stack([turns.cos(), turns.sin()], 1))


def both(*which: int) -> Tensor:
    """Return documents with the same token as text and as image, so that both modalities have the same embedding."""
    return torch.tensor([[S.eos, k, S.break_token, S.text + k, S.break_token] for k in which])


def text(k: int) -> list[int]:
    return [S.eos, k, S.break_token, S.pad, S.pad]


def indexed(encoder: Table, rows: Tensor) -> IndexedDatastore:
    return IndexedDatastore(create_datastore(rows, encoder, S), encoder)


def find(rule: Retriever, store: IndexedDatastore, rows: Tensor, count: int, seed: int = 0) -> RetrievedDocuments:
    return rule(store, rows, torch.full((len(rows),), count), Rng(seed))


def test_results_are_sorted_by_score() -> None:
    store = indexed(angle(0, 30, 50, 10, 70, 90), both(1, 2, 3, 4, 5))
    found = find(replace(ALL, by_picture=3), store, both(0), 3)
    assert found.index.tolist() == [[2, 0, 1]]
    close(found.score, torch.tensor([[10.0, 30.0, 50.0]]).deg2rad().cos(), 1e-6)


def test_max_score_excludes_and_the_search_continues() -> None:
    """cos 25 degrees is above 0.9, cos 26 below; two hundred documents that are too like hide two that are not."""
    encoder = angle(0, *np.linspace(1, 25, 200).tolist(), 26, 60)
    store = indexed(encoder, both(*range(1, 203)))
    for rule in (
        SimilarityRetriever(query_dropout=0.0, by_picture=0),
        SimilarityRetriever(query_dropout=0.0, by_text=0),
    ):
        found = find(rule, store, both(0), 2)
        assert found.index.tolist() == [[200, 201]]
        assert (found.score <= 0.9).all()


def test_max_score_applies_to_the_whole_query() -> None:
    """Text at 0, picture at 80, so the whole is at 40: the document at 41 is too like it, though not to its parts."""
    store = indexed(angle(0, 80, 41, 100), both(2, 3))
    query = torch.tensor([[S.eos, 0, S.break_token, S.text + 1, S.break_token]])
    assert find(SimilarityRetriever(query_dropout=0.0, by_text=0), store, query, 2).index.tolist() == [
        [NO_DOCUMENT, NO_DOCUMENT]
    ]
    assert find(SimilarityRetriever(query_dropout=0.0, by_picture=0), store, query, 2).index.tolist() == [
        [1, NO_DOCUMENT]
    ]
    assert find(ALL, store, query, 2).index.tolist() == [[1, 0]]


def test_the_query_itself_is_excluded() -> None:
    store = indexed(angle(0, 40, 90), both(0, 1, 0, 2))
    padded = torch.cat([both(0), torch.full((1, 3), S.pad)], 1)
    for rule in (ALL, replace(ALL, query_dropout=0.5, by_text=4), RandomRetriever()):
        for seed in range(20):
            found = find(rule, store, padded, 4, seed)
            assert not {0, 2} & set(found.index[0].tolist())
    assert set(find(RandomRetriever(), store, padded, 4).index[0].tolist()) == {1, 3, NO_DOCUMENT}


def test_near_duplicates_of_results_are_excluded() -> None:
    """At 30, 31 and 80 degrees: the first two are alike, and by picture nothing like what came by text is taken."""
    store = indexed(angle(0, 30, 31, 80), both(1, 2, 3))
    assert sorted(find(SimilarityRetriever(query_dropout=0.0, by_picture=0), store, both(0), 2).index[0].tolist()) == [
        0,
        2,
    ]
    assert sorted(
        find(SimilarityRetriever(query_dropout=0.0, by_picture=0, dedup=1.0), store, both(0), 2).index[0].tolist()
    ) == [0, 1]
    across = find(SimilarityRetriever(query_dropout=0.0, by_text=1, by_picture=1), store, both(0), 2)
    assert sorted(across.index[0].tolist()) == [0, 2]
    again = find(
        SimilarityRetriever(max_score=1.0, dedup=1.0, query_dropout=0.0, by_text=2, by_picture=2), store, both(0), 4
    )
    assert sorted(again.index[0].tolist()) == [NO_DOCUMENT, 0, 1, 2]  # each once, though both parts find it


def test_documents_with_both_modalities_come_first() -> None:
    rows = torch.cat([torch.tensor([text(1), text(2)]), both(3, 4)])
    store = indexed(angle(0, 30, 40, 50, 60), rows)
    assert store.datastore.has_both.tolist() == [False, False, True, True]
    assert sorted(find(replace(ALL, by_picture=2), store, both(0), 2).index[0].tolist()) == [2, 3]
    assert sorted(find(replace(ALL, by_picture=3), store, both(0), 3).index[0].tolist()) == [0, 2, 3]


def test_max_score_one_allows_equal_vectors() -> None:
    """In float32 the product of a vector of length 1 with itself may be a little above 1, as here of all."""
    encoder = Table(angle(0, 30, 60).table * (1 + 2**-20))
    store = indexed(encoder, torch.tensor([text(k) for k in range(3)]))
    prompts = torch.tensor([[S.eos, k, S.break_token, S.mask, S.break_token] for k in range(3)])  # no equal documents
    found = find(replace(ALL, by_text=1, by_picture=0), store, prompts, 1)
    assert found.index.tolist() == [[0], [1], [2]]


def test_queries_without_an_image_use_their_text() -> None:
    store = indexed(angle(0, 30, 60), both(1, 2))
    found = find(SimilarityRetriever(query_dropout=0.0), store, torch.tensor([text(0)]), 4)
    assert found.index.tolist() == [[0, 1, NO_DOCUMENT, NO_DOCUMENT]]
    close(found.score, torch.tensor([[30.0, 60.0, 90.0, 90.0]]).deg2rad().cos(), 1e-6)
    empty = torch.tensor([[S.eos, S.pad, S.pad, S.pad, S.pad]])
    assert find(SimilarityRetriever(), store, empty, 2).index.tolist() == [[NO_DOCUMENT, NO_DOCUMENT]]


def test_answers_are_not_part_of_the_query() -> None:
    store = indexed(angle(0, 30, 60), both(1, 2))
    hidden = torch.tensor([[S.eos, S.answer_start, 0, S.answer_end, S.break_token]])
    assert find(SimilarityRetriever(query_dropout=0.0), store, hidden, 2).index.tolist() == [[NO_DOCUMENT, NO_DOCUMENT]]


def test_query_dropout_depends_on_the_rng_only() -> None:
    """The same draws find the same; over seeds, a text that alone has its likes is dropped in a fifth of the queries.

    400 queries, 5 standard errors: a false alarm in one of 1.7 million.
    """
    store = indexed(angle(0, 40, 80), both(1, 2))
    query = torch.tensor([text(0)]).expand(400, -1)
    rule = SimilarityRetriever()
    found = find(rule, store, query, 2)
    again = find(rule, store, query, 2)
    assert torch.equal(found.index, again.index)
    assert torch.equal(found.score, again.score)
    assert not torch.equal(found.index, find(rule, store, query, 2, seed=1).index)
    asked = (found.index != NO_DOCUMENT).all(1)
    assert abs(asked.double().mean() - 0.8) < 5 * math.sqrt(0.8 * 0.2 / 400)
    without = [find(replace(rule, query_dropout=0.0), store, query, 2, seed).index for seed in (0, 1)]
    assert torch.equal(*without)


def test_results_do_not_depend_on_the_batch() -> None:
    random = torch.nn.functional.normalize(Rng(3).stream("table").normal((400, 8)), dim=1)
    store = indexed(Table(random), both(*range(300)))
    queries = both(*range(280, 400))
    whole = SimilarityRetriever()(store, queries, torch.arange(120) % 4, Rng(0))
    part = SimilarityRetriever()(store, queries[50:70], torch.arange(50, 70) % 4, Rng(0, first_example=50))
    assert torch.equal(part.index, whole.index[50:70])
    assert ((whole.index != NO_DOCUMENT).sum(1) <= torch.arange(120) % 4).all()
    chance = RandomRetriever()(store, queries, torch.arange(120) % 4, Rng(0))
    part = RandomRetriever()(store, queries[50:70], torch.arange(50, 70) % 4, Rng(0, first_example=50))
    assert torch.equal(part.index, chance.index[50:70])
    assert torch.equal((chance.index != NO_DOCUMENT).sum(1), torch.arange(120) % 4)


def test_results_are_sampled_from_the_candidates() -> None:
    """One of four, each a quarter of 2,000 times, 5 standard errors; several are told by falling scores."""
    store = indexed(angle(0, 30, 45, 60, 75), both(1, 2, 3, 4))
    queries = torch.tensor([text(0)]).expand(2000, -1)
    rule = SimilarityRetriever(query_dropout=0.0, dedup=1.0, by_text=4)
    share = torch.bincount(find(rule, store, queries, 1).index[:, 0], minlength=4) / 2000
    assert ((share - 0.25).abs() < 5 * math.sqrt(0.25 * 0.75 / 2000)).all()
    three = find(rule, store, queries, 3)
    assert (three.score.diff(dim=1) < 0).all()
    assert (three.index.diff(dim=1) > 0).all()


def test_random_retrieval_is_uniform_without_replacement() -> None:
    """Two of five but the query, 4,000 times: pairs are equally likely, 5 standard errors."""
    store = indexed(angle(0, 10, 20, 30, 40, 50), both(0, 1, 2, 3, 4))
    found = find(RandomRetriever(), store, both(2).expand(4000, -1), 2)
    pairs = found.index[:, 0] * 5 + found.index[:, 1]
    counts = torch.bincount(pairs, minlength=25).view(5, 5)
    allowed = torch.ones(5, 5, dtype=torch.bool).fill_diagonal_(False)
    allowed[2], allowed[:, 2] = False, False
    assert (counts[~allowed] == 0).all()
    assert ((counts[allowed] / 4000 - 1 / 12).abs() < 5 * math.sqrt(11 / 144 / 4000)).all()


def test_fingerprints_are_unique() -> None:
    rows = both(*range(900))
    assert len(fingerprints(rows, S).unique()) == 900
    assert torch.equal(fingerprints(torch.cat([rows, torch.full((900, 7), S.pad)], 1), S), fingerprints(rows, S))
    turned = rows.flip(0)[:, [0, 3, 2, 1, 4]]
    assert not (fingerprints(turned, S)[:, None] == fingerprints(rows, S)).any()


def test_datastore_files_round_trip(tmp_path: pathlib.Path) -> None:
    memory = create_datastore(both(1, 2, 0), angle(0, 30, 60), S)
    save_datastore(memory, MAKERS, tmp_path / "memory.npz")
    again = load_datastore(tmp_path / "memory.npz", S, MAKERS)
    for name in ("rows", "vectors", "has_both"):
        assert torch.equal(getattr(again, name), getattr(memory, name))
    with np.load(tmp_path / "memory.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype.kind for name in file.files} == {
            "rows": "i",
            "vectors": "f",
            "both": "b",
            "symbols": "i",
            "makers": "U",
        }


@pytest.mark.parametrize(("name", "dtype"), [("rows", ">i8"), ("vectors", ">f4"), ("vectors", np.longdouble)])
def test_datastores_of_other_byte_orders_are_read(tmp_path: pathlib.Path, name: str, dtype: Any) -> None:
    memory = create_datastore(both(1, 2, 0), angle(0, 30, 60), S)
    save_datastore(memory, MAKERS, tmp_path / "memory.npz")
    with np.load(tmp_path / "memory.npz") as file:
        parts = dict(file)
    np.savez(tmp_path / "memory.npz", **{**parts, name: parts[name].astype(dtype)})
    again = load_datastore(tmp_path / "memory.npz", S, MAKERS)
    assert torch.equal(again.rows, memory.rows)
    assert torch.equal(again.vectors, memory.vectors)


@pytest.mark.parametrize(
    ("symbols", "makers", "named"),
    [
        (S, replace(MAKERS, codes="0123456789ab"), ["tokenizer.safetensors", "model.json"]),
        (S, replace(MAKERS, text="0123456789ab"), ["model.json"]),
        (S, replace(MAKERS, vectors="0123456789ab"), ["vectors.safetensors"]),
        (replace(S, text=7), MAKERS, ["model.json"]),
    ],
    ids=["codes", "text", "vectors", "symbols"],
)
def test_datastores_of_another_run_name_the_file_that_differs(
    tmp_path: pathlib.Path, symbols: DocumentVocabulary, makers: DatastoreOrigin, named: list[str]
) -> None:
    path = tmp_path / "memory.npz"
    save_datastore(create_datastore(both(1, 2, 0), angle(0, 30, 60), S), MAKERS, path)
    with refuses(InputError, file=str(path)) as caught:
        load_datastore(path, symbols, makers)
    assert re.findall(r"\w+\.(?:safetensors|json)", caught.value.message) == named
    assert f"feller data memory DOCUMENTS --run RUN --out {path}" in caught.value.remedy
    for identifier in ("0123456789ab", *asdict(MAKERS).values()):
        assert identifier not in str(caught.value)


def test_empty_datastores_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, found="none"):
        create_datastore(both(1)[:0], angle(0), S)
    memory, path = create_datastore(both(1, 2, 0), angle(0, 30, 60), S), tmp_path / "none.npz"
    none = replace(memory, rows=memory.rows[:0], vectors=memory.vectors[:0], has_both=memory.has_both[:0])
    save_datastore(none, MAKERS, path)
    with refuses(InputError, file=str(path), found="none", remedy=ANEW):
        load_datastore(path, S, MAKERS)


NAMES = ["rows", "vectors", "both", "symbols", "makers"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda parts: parts | {"symbols": np.array([0, 1, 2])}, ["symbols", "makers"]),
        (lambda parts: parts | {"makers": parts["makers"][:2]}, ["symbols", "makers"]),
        (lambda parts: parts | {"makers": np.arange(3)}, ["makers"]),
        (lambda parts: {"samples": np.zeros(3)}, NAMES),
        (lambda parts: parts | {"vectors": parts["vectors"][:1]}, ["3", "1", "3"]),
    ],
    ids=["symbols", "makers", "numbers", "nothing", "lengths"],
)
def test_invalid_datastore_files_are_refused(
    tmp_path: pathlib.Path, change: Callable[..., Any], named: list[str]
) -> None:
    path = tmp_path / "memory.npz"
    save_datastore(create_datastore(both(1, 2, 0), angle(0, 30, 60), S), MAKERS, path)
    with np.load(path) as file:
        parts = dict(file)
    np.savez(path, **change(parts))
    with refuses(InputError, file=str(path), remedy=ANEW) as caught:
        load_datastore(path, S, MAKERS)
    assert re.findall(rf"\b(?:{'|'.join(NAMES)}|\d+)\b", caught.value.found) == named


def test_damaged_datastore_files_are_refused(tmp_path: pathlib.Path) -> None:
    memory, path = create_datastore(both(1, 2, 0), angle(0, 30, 60), S), tmp_path / "memory.npz"
    save_datastore(memory, DatastoreOrigin("two\nlines", "b", "c"), path)
    with refuses(InputError, file=str(path)):
        load_datastore(path, S, MAKERS)
    path.write_bytes(b"PK nothing")
    with refuses(InputError, file=str(path)):
        load_datastore(path, S, MAKERS)


@pytest.mark.parametrize(
    "row",
    [
        [S.eos, 1, S.break_token, S.text + 1, -1],
        [S.eos, 1, S.break_token, S.text + 1, S.num_data_tokens],
        [1, S.break_token, S.text + 1, S.break_token, S.pad],
        [S.eos, 1, S.pad, 2, S.break_token],
        [S.eos, 1, S.break_token, S.eos, 2],
        [S.eos, 1, S.pad, S.pad, S.pad],
        [S.eos, 1, S.text + 1, S.break_token, S.pad],
        [S.eos, 1, S.break_token, S.text + 1, S.text + 2],
        [S.eos, S.mask, S.break_token, S.text + 1, S.break_token],
        [S.eos, 1, S.break_token, S.infill, 1],
        [S.eos, S.answer_start, 1, S.break_token, S.pad],
        [S.eos, S.answer_end, 1, S.answer_start, S.break_token],
        [S.eos, S.answer_start, S.break_token, S.answer_end, S.break_token],
    ],
)
def test_datastores_of_malformed_documents_are_refused(tmp_path: pathlib.Path, row: list[int]) -> None:
    memory = create_datastore(both(1, 2, 0), angle(0, 30, 60), S)
    rows = torch.cat([memory.rows[:2], torch.tensor([row])])
    save_datastore(replace(memory, rows=rows), MAKERS, tmp_path / "memory.npz")
    with refuses(InputError, file=str(tmp_path / "memory.npz"), remedy=ANEW):
        load_datastore(tmp_path / "memory.npz", S, MAKERS)


def test_records_and_settings_out_of_range() -> None:
    for rule in (SimilarityRetriever(dedup=0.5, by_text=1), RandomRetriever()):
        assert from_dict(Retriever, to_dict(rule)) == rule
    assert (
        IndexedDatastore(create_datastore(both(1), angle(0, 1), S), angle(0, 1), ExactIndex(1))
        .search(torch.ones(1, 2), 1)[1]
        .item()
        == 0
    )
    with refuses(UsageError, argument="query_dropout", found="1"):
        SimilarityRetriever(query_dropout=1.0)
    with refuses(UsageError) as caught:
        SimilarityRetriever(by_text=0, by_picture=0)
    assert {"by_text", "by_picture"} <= {*caught.value.expected.split()}
    assert numbers(caught.value.found) == ["0", "0"]
