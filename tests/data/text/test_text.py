"""The text modality: tokens, templates, files, figures and windows."""

import json
import pathlib
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import split
from feller.data.loading.dataset_reader import read
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset, Modality
from feller.data.text import dataset
from feller.data.text.dataset import cut_windows
from feller.data.text.files import lines_of, to_lines
from feller.data.text.modality import Text
from feller.data.text.subwords import learn_subwords
from feller.data.text.vocabulary import Bytes, Characters
from feller.spaces import Tokens
from tests.errors import refuses

FAST = settings(deadline=None, max_examples=12, derandomize=True)
LETTERS = Characters("\n\r\\nuabc,\"' \ufeffé世")
SUBWORDS = learn_subwords(["the cat sat on the mat " * 9], 262)
KINDS = {
    "stream": Text(LETTERS, 5, documents=False),
    "documents": Text(LETTERS, 5, documents=True, classes=("x", "y,z")),
    "bytes": Text(Bytes(), 4, documents=False),
    "byte documents": Text(Bytes(), 4, documents=True),
    "subwords": Text(SUBWORDS, 3, documents=False),
    "subword documents": Text(SUBWORDS, 3, documents=True, classes=("x",)),
}


def with_end(modality: Text, values: torch.Tensor) -> torch.Tensor:
    """Replace all tokens after the first end token with end tokens."""
    after = (values == modality.vocabulary.vocab_size).cumsum(1) > 0
    return torch.where(after & torch.tensor(modality.documents), modality.vocabulary.vocab_size, values)


@pytest.mark.parametrize("name", KINDS)
@FAST
@given(st.data())
def test_written_texts_round_trip(name: str, data: st.DataObject) -> None:
    """Also tokens that are no valid text, except in .txt and .csv."""
    modality = KINDS[name]
    n = data.draw(st.integers(1, 4))
    draw = st.lists(st.integers(0, modality.vocab_size - 1), min_size=modality.length, max_size=modality.length)
    values = torch.tensor([data.draw(draw) for _ in range(n)])
    drawn = [data.draw(st.integers(0, max(0, len(modality.classes) - 1))) for _ in range(n)]
    given = {"label": torch.tensor(drawn)} if modality.classes else {}
    with tempfile.TemporaryDirectory() as folder:
        for form in ("a.npz", "a.jsonl", "folder"):
            modality.write(values, given, pathlib.Path(folder) / form)
            back, labels = read_samples(pathlib.Path(folder) / form, modality)
            assert torch.equal(with_end(modality, back), with_end(modality, values)), form
            assert labels.keys() == given.keys(), form
            assert all(torch.equal(labels[key], given[key]) for key in labels), form
        if isinstance(modality.vocabulary, Characters):
            for form in ("a.txt", "a.csv"):
                modality.write(values, given, pathlib.Path(folder) / form)
                back, _ = read_samples(pathlib.Path(folder) / form, modality)
                assert torch.equal(back, with_end(modality, values)), form


@FAST
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["\\n", "\\\\n", "\n\\"]), min_size=1)
)
def test_lines_round_trip(texts: list[str]) -> None:
    content = to_lines(texts)
    assert content.count("\n") == len(texts)
    assert lines_of(content) == texts


def test_files_of_samples(tmp_path: pathlib.Path) -> None:
    modality = KINDS["documents"]
    values, given = modality.values_from_raw(read_lines(tmp_path, ["ab\n", "c", ""], ["x", "x", "y,z"]))
    assert modality.texts(values) == ["ab\n", "c", ""]
    assert values[1].tolist() == [7, *[15] * 4]
    modality.write(values, given, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grid.png", "samples.jsonl", "samples.txt"]
    assert (tmp_path / "out" / "samples.txt").read_text() == "ab\\n\nc\n\n"
    first = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"text": "ab\n", "label": "x"}
    modality.write(values, {}, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grid.png", "samples.txt"]
    assert texts_of(tmp_path / "out") == ["ab\n", "c", ""]
    modality.write(values, given, tmp_path / "a.npz")
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["samples"].tolist() == ["ab\n", "c", ""]
    assert arrays["labels"].tolist() == [0, 0, 1]
    data = read(str(tmp_path / "a.npz"))
    assert data.modality == Text(Characters("\nabc"), 4, documents=True, classes=("x", "y,z"))
    assert data.modality.texts(data.values) == ["ab\n", "c"]
    assert data.given["label"].tolist() == [0, 0]


def test_single_sample_is_one_example(tmp_path: pathlib.Path) -> None:
    values = torch.tensor([SUBWORDS.encode("é")[:1] * 3])  # half a character each
    KINDS["subwords"].write(values, {}, tmp_path / "a.npz")
    assert torch.equal(read(str(tmp_path / "a.npz"), like=KINDS["subwords"]).values, values)


def read_lines(folder: pathlib.Path, texts: list[str], labels: list[str]):
    from feller.data.loading.file_formats import load_raw

    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in zip(texts, labels, strict=True)))
    return load_raw(path, ReadOptions())


def texts_of(path: pathlib.Path) -> list[str]:
    return KINDS["documents"].texts(read_samples(path, KINDS["documents"])[0])


def test_unknown_output_suffix_is_refused(tmp_path: pathlib.Path) -> None:
    with refuses(UsageError):
        KINDS["stream"].write(torch.zeros(1, 5, dtype=torch.long), {}, tmp_path / "a.parquet")


def test_space_and_invalid_tokens() -> None:
    assert KINDS["stream"].space() == Tokens(15, (5,))
    assert KINDS["documents"].space() == Tokens(16, (5,))
    modality, values = KINDS["stream"], torch.arange(10).reshape(2, 5)
    assert torch.equal(modality.encode(values), values)
    assert torch.equal(modality.decode(values), values)
    with refuses(InputError, found=None):
        modality.decode(torch.tensor([[0, 1, 2, 3, 4], [0, 15, 15, 0, 0]]))
    with refuses(InputError, found="[2, 4] in torch.int64"):
        modality.decode(values[:, :4])
    with refuses(InputError, argument="length", found="0"):
        Text(Bytes(), 0, documents=False)


def test_texts_end_at_first_end_token() -> None:
    modality = KINDS["documents"]
    values = torch.tensor([[5, 6, 15, 7, 15], [15] * 5, [5, 6, 7, 5, 6]])
    decode = modality.vocabulary.decode
    assert modality.texts(values) == [decode([5, 6]), "", decode([5, 6, 7, 5, 6])]


@pytest.mark.parametrize("name", ["documents", "bytes", "subwords"])
def test_record_round_trip(name: str) -> None:
    """Of a modality with each vocabulary."""
    record = json.loads(json.dumps(to_dict(KINDS[name])))
    assert from_dict(Modality, record) == KINDS[name]
    assert from_dict(Modality, record).vocabulary.encode("a") == KINDS[name].vocabulary.encode("a")


def test_template_gaps() -> None:
    modality = Text(Characters("abc _"), 8, documents=False)
    tokens, known = modality.observed_tokens("ab __c")
    assert tokens.tolist() == [0, 1, 3, 0, 0, 2, 0, 0]
    assert known.tolist() == [True, True, True, False, False, True, False, False]
    assert not modality.observed_tokens("")[1].any()
    assert modality.observed_tokens("abcabcab")[1].all()
    tokens, known = KINDS["bytes"].observed_tokens("é_a")
    assert tokens.tolist() == [195, 169, 0, 97]
    assert known.tolist() == [True, True, False, True]
    tokens, known = Text(SUBWORDS, 9, documents=True).observed_tokens("the__ mat")
    first, last = SUBWORDS.encode("the"), SUBWORDS.encode(" mat")
    expected = [True] * len(first) + [False] * 2 + [True] * len(last)
    assert known.tolist() == (expected + [False] * 9)[:9]
    assert tokens[known].tolist() == [*first, *last]


def test_invalid_templates_are_refused() -> None:
    modality = Text(Characters("abc "), 8, documents=False)
    for template in ("abc _____", "ab __é", "A"):
        with refuses(UsageError):
            modality.observed_tokens(template)


def test_figures_of_any_text() -> None:
    odd = ["To be, or not\nto be", "世界 \U0001f600 مرحبا", "\x00\x1b[31m\u202e", "", "x" * 5000, "\n" * 99]
    modality = Text(Characters("".join(sorted(set("".join(odd))))), 5000, documents=True, classes=("a", "b"))
    values = modality.pad(modality.rows(odd, str)[0])
    plain = modality.show(values, {})
    labelled = modality.show(values, {"label": torch.tensor([0, 1, 0, 1, 0, 1])})
    single = modality.show(values, {}, columns=1)
    assert len(plain.getcolors(maxcolors=10**6)) > 10
    assert labelled.height > plain.height
    assert single.width < plain.width
    assert modality.show(values[:1], {}).size != plain.size
    assert max(modality.show(values.repeat(50, 1), {}).size) < 10_000


def test_shakespeare_parts() -> None:
    train, test = read("example:shakespeare"), read("example:shakespeare/test")
    assert train.modality == test.modality
    assert train.modality.vocab_size == 65
    assert (train.values.shape[1], len(train) > 30_000, len(test) > 3_000) == (128, True, True)
    assert train.modality.texts(train.values[:1])[0].startswith("First Citizen:\nBefore we proceed any further")
    assert read("example:shakespeare", longest=32, vocabulary="bytes").modality == Text(Bytes(), 32, documents=False)


OFTEN = settings(deadline=None, max_examples=100, derandomize=True)


@OFTEN
@given(st.integers(0, 3000), st.integers(1, 60))
def test_windows_cover_the_text_and_groups_are_disjoint(n: int, length: int) -> None:
    values, groups = cut_windows(range(n), length)  # each token is its own position
    assert values.shape == (len(groups), length)
    assert len(values) == 0 if n < length else len(values) >= 1
    assert (values.diff(dim=1) == 1).all()
    places = [set(values[groups == group].flatten().tolist()) for group in groups.unique()]
    assert sum(map(len, places)) == len(set().union(*places))
    if n >= length:
        assert set().union(*places) == set(range(n))


def test_each_token_is_in_four_windows() -> None:
    values, groups = cut_windows(range(100_000), 100)
    seen = torch.bincount(values.flatten(), minlength=100_000)
    assert seen.max() == 4
    assert (seen == 4).double().mean() > 0.9
    assert (seen >= 1).all()
    assert int(groups.max()) == 30  # blocks of 3,200
    assert (groups.bincount()[:-1] == 125).all()


def test_window_overlap_is_limited(monkeypatch) -> None:
    monkeypatch.setattr(dataset, "MAX_WINDOW_SYMBOLS", 3_000)
    values, _ = cut_windows(range(2_000), 100)
    assert values.numel() <= 3_000
    assert (values[1, 0] - values[0, 0]) == 67


def numbered(n: int, length: int) -> Dataset:
    values, groups = cut_windows([i % 256 for i in range(n)], length)
    return Dataset(values, {}, Text(Bytes(), length, documents=False), (), groups)


@OFTEN
@given(st.integers(100, 4000), st.integers(4, 40), st.floats(0, 0.5), st.integers(0, 3))
def test_groups_are_never_split(n: int, length: int, share: float, seed: int) -> None:
    data = numbered(n, length)
    train, aside = split(data, share, Rng(seed))
    assert len(train) + len(aside) == len(data)
    assert not set(train.groups.tolist()) & set(aside.groups.tolist())
    assert len(train) >= 1
    number, largest = len(data.groups.unique()), int(data.groups.bincount().max())
    if len(data) < 10 or share == 0 or number < 2:
        assert len(aside) == 0
    else:
        assert len(aside) > 0
        assert abs(len(aside) - max(1, round(share * len(data)))) <= largest


def test_subset_keeps_groups() -> None:
    data = numbered(1000, 10)
    index = torch.tensor([30, 2, 7])
    assert torch.equal(data.subset(index).groups, data.groups[index])
