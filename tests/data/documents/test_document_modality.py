"""Documents as values, token rows and prompts, and the balance of tasks."""

import pathlib
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64, UInt8
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.modality import Documents, balance_tasks
from feller.data.documents.prompt import edit, instruction_in, parse_prompt, question, question_in
from feller.data.documents.token_layout import (
    BREAK_MARK,
    IMAGE_MARK,
    InfillItem,
    MaskItem,
    as_array,
    encode_items,
    from_tokens,
    group_by_document,
    to_tokens,
    ungroup,
)
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.loading.raw import BreakItem, ImageItem, Item, TextItem
from feller.data.text.vocabulary import Characters
from tests.data.documents.written import square
from tests.errors import refuses


@dataclass(frozen=True)
class ConstantTokenizer(ImageTokenizer):
    """Tokenizer of two codes per image that its images do not show."""

    @property
    def codebook_size(self) -> int:
        return 4

    @property
    def grid(self) -> tuple[int, int]:
        return 1, 2

    @property
    def name(self) -> str:
        return "forgetful"

    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        return torch.zeros(len(pictures), 2, dtype=torch.long)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        return torch.zeros(len(codes), 1, 4, 4, dtype=torch.uint8)


KIND = Documents(Characters("ab"), 4, 4, 1, 32, image_tokenizer=ConstantTokenizer())


def test_decoded_documents_keep_image_codes() -> None:
    s = KIND.symbols
    rows = [
        [s.eos, 0, s.break_token, 3, 5, s.break_token],
        [s.eos, 4, 2, s.break_token, 1, s.break_token, 5, 5, s.break_token],
    ]
    tokens = torch.full((2, 9), s.pad)
    for row, line in zip(tokens, rows, strict=True):
        row[: len(line)] = torch.tensor(line)
    values = KIND.decode(tokens)
    assert torch.equal(KIND.encode(values), tokens)
    assert values["pictures"].shape == (2, 2, 1, 4, 4)
    read = {name: leaf for name, leaf in values.items() if name != "codes"}
    assert (KIND.encode(read)[0, 3:5] == s.text).all()  # as pictures that a person gives
    assert KIND.with_codes(values) is values
    coded = KIND.with_codes(read)
    assert torch.equal(KIND.encode(coded), KIND.encode(read))
    assert coded["codes"].shape == (2, 2, 2)
    assert not coded["codes"].any()


def test_group_by_document_round_trip() -> None:
    rows = torch.tensor([[0, -2, -1, -2], [-1, -2, -1, -2], [1, -2, -7, -7]])
    parts = torch.arange(12).reshape(3, 2, 2)
    given = group_by_document(rows, parts)
    assert given.shape == (3, 2, 2, 2)
    assert torch.equal(given[1], parts[1:])
    assert torch.equal(ungroup(rows, given), parts)
    assert group_by_document(rows[2:], parts[:0]).shape == (1, 0, 2, 2)


def tasks_of(*counts: int) -> torch.Tensor:
    """Return task ids 5, 6, ... in random order, with these counts."""
    tasks = torch.cat([torch.full((count,), 5 + i) for i, count in enumerate(counts)])
    return tasks[torch.randperm(len(tasks), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((100, 100, 100), [100, 100, 100]),
        ((200, 100, 60), [120, 120, 120]),  # all within the factors: equal shares
        ((1000, 10, 10), [340, 30, 30]),  # 0.34 of the large one, three times the small ones
        ((10_000, 10), [5005, 30]),
        ((2000, 5, 5, 5, 5), [600, 15, 15, 15, 15]),  # 404 / 2000 is below 0.3
        ((1,), [1]),
    ],
)
def test_balanced_task_counts(counts: tuple[int, ...], expected: list[int]) -> None:
    tasks = tasks_of(*counts)
    index = balance_tasks(tasks, Rng(0))
    assert torch.equal(index, index.sort().values)
    assert torch.bincount(tasks[index], minlength=5 + len(counts))[5:].tolist() == expected
    for i, count in enumerate(counts):  # no document is left out while another comes twice more
        times = torch.bincount(index, minlength=len(tasks))[tasks == 5 + i]
        assert times.max() - times.min() <= 1
        assert len(times) == count


def test_documents_of_a_large_task_are_equally_likely() -> None:
    """Of 30 documents 16 come (all 32, halved); 400 seeds, 5 standard errors, a false alarm in one of 60,000 runs."""
    tasks = tasks_of(30, 2)
    times = sum(torch.bincount(balance_tasks(tasks, Rng(seed)), minlength=32)[tasks == 5] for seed in range(400))
    p = 16 / 30
    assert ((times / 400 - p).abs() < 5 * (p * (1 - p) / 400) ** 0.5).all()


def test_balance_factors_and_seeds() -> None:
    tasks = tasks_of(90, 10)
    first = balance_tasks(tasks, Rng(0))
    assert torch.equal(first, balance_tasks(tasks, Rng(0)))
    assert not torch.equal(first, balance_tasks(tasks, Rng(1)))
    assert torch.bincount(tasks[balance_tasks(tasks, Rng(0), max_factor=1.0, min_factor=1.0)])[5:].tolist() == [90, 10]
    assert len(balance_tasks(tasks[:0], Rng(0))) == 0
    for most, least in ((0.5, 0.3), (3.0, 0.0), (3.0, 1.5)):
        with refuses(UsageError, found=f"{most:g} and {least:g}"):
            balance_tasks(tasks, Rng(0), max_factor=most, min_factor=least)


SYMBOLS = DocumentVocabulary(text=4, codes=5, picture=3)
SIGNS = Characters("abcd")
segments = st.one_of(st.just(IMAGE_MARK), st.lists(st.integers(0, 3), max_size=4))


def test_document_token_ids() -> None:
    s = SYMBOLS
    assert (s.eos, s.break_token, s.mask, s.infill, s.num_outputs) == (9, 10, 11, 12, 13)
    assert (s.pad, s.num_inputs, s.answer_start, s.answer_end, s.num_data_tokens) == (13, 14, 14, 15, 16)


@pytest.mark.parametrize(
    ("items", "codes", "expected"),
    [
        ([TextItem("ab"), ImageItem(0)], [4, 0, 2], [9, 0, 1, 10, 8, 4, 6, 10]),
        ([TextItem("a"), MaskItem(), ImageItem(0), InfillItem()], [0, 1, 2], [9, 0, 11, 10, 4, 5, 6, 10, 12]),
    ],
    ids=["caption", "infill"],
)
def test_tokens_of_items(items: list[Item | MaskItem | InfillItem], codes: list[int], expected: list[int]) -> None:
    rows = as_array([encode_items(items, SIGNS)])
    assert to_tokens(rows, torch.tensor([codes]), SYMBOLS).tolist() == [expected]


def test_adjacent_texts_are_one_segment_unless_broken() -> None:
    answered = [TextItem("a"), TextItem("b", is_answer=True), TextItem("c")]
    assert encode_items(answered, SIGNS) == [0, -3, 1, -4, 2, BREAK_MARK]
    assert encode_items([TextItem("a"), BreakItem(), TextItem("b")], SIGNS) == [0, BREAK_MARK, 1, BREAK_MARK]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(segments, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 99))
def test_token_round_trip(documents: list[list[int | list[int]]], seed: int) -> None:
    rows = [
        [n for part in parts for n in ([part, BREAK_MARK] if isinstance(part, int) else [*part, BREAK_MARK])]
        for parts in documents
    ]
    shown = sum(part == IMAGE_MARK for parts in documents for part in parts)
    codes = torch.randint(0, 5, (shown, 3), generator=torch.Generator().manual_seed(seed))
    tokens = to_tokens(as_array(rows), codes, SYMBOLS)
    back, found = from_tokens(tokens, SYMBOLS)
    assert torch.equal(back, as_array(rows))
    assert torch.equal(found, codes)
    closed = torch.nn.functional.pad(tokens, (0, 1), value=SYMBOLS.eos)  # what comes behind the last <eos> counts not
    assert torch.equal(from_tokens(closed, SYMBOLS)[0], as_array(rows))


@pytest.mark.parametrize(
    "row", [[0, 10], [9, 4, 5, 10], [9, 4, 5], [9, 0, 4, 5, 6, 10], [9, 4, 5, 6, 7, 10], [9, 11, 10]]
)
def test_invalid_token_rows_are_refused(row: list[int]) -> None:
    with refuses(InputError, place="document 1"):
        from_tokens(torch.tensor([row]), SYMBOLS)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a red apple", (TextItem("a red apple"),)),
        (r"a \<mask> of \<break>", (TextItem("a <mask> of <break>"),)),
        ("a <b> and <Mask>", (TextItem("a <b> and <Mask>"),)),
        ("see <https://example.org>, <note: a cat>", (TextItem("see <https://example.org>, <note: a cat>"),)),
        (r"a \<imge:cat.png>", (TextItem("a <imge:cat.png>"),)),
        ("one<break>two", (TextItem("one"), BreakItem(), TextItem("two"))),
        ("a <mask> apple", (TextItem("a"), MaskItem(), TextItem(" apple"), InfillItem())),
        ("<mask>", (MaskItem(), InfillItem())),
    ],
)
def test_prompts_of_text(text: str, items: tuple[Item | MaskItem | InfillItem, ...]) -> None:
    assert parse_prompt(text).items == items


def test_prompts_of_images(tmp_path: pathlib.Path) -> None:
    file = square(tmp_path, "a cat.png", 1)
    caption = parse_prompt(f"<image:{file}> <infill>")
    assert caption.items == (MaskItem(), ImageItem(0), InfillItem())
    assert caption.pictures[0].shape == (8, 8, 3)
    stem = parse_prompt(f"Image of <mask>: <image:{file}> <infill>")
    assert stem.items == (TextItem("Image of"), MaskItem(), TextItem(":"), ImageItem(0), InfillItem())
    assert parse_prompt(f"<image:{file}> make it red <image:{file}>").items == (
        ImageItem(0),
        TextItem("make it red"),
        ImageItem(1),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("  ", None),
        ("<infill>", None),
        ("a word <infill>", "neither"),
        ("<mask> <infill> more", "<infill> at another position, or more than once"),
        ("<mask> <infill> <infill>", "<infill> at another position, or more than once"),
        ("a <imge:cat.png>", "<imge:cat.png>"),
        ("a <Image:cat.png>", "<Image:cat.png>"),
    ],
)
def test_invalid_prompts_are_refused(text: str, found: str | None) -> None:
    with refuses(UsageError, found=found):
        parse_prompt(text)


def test_missing_and_damaged_images_in_prompts(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    for name in ("none.png", tmp_path / "x.png"):
        with refuses(InputError) as error:
            parse_prompt(f"<image:{name}> <infill>")
        assert str(name) in str(error.value)


@pytest.mark.parametrize(
    ("text", "gap"),
    [("a <mask> apple", True), ("a red <mask>", True), ("<mask>", False), ("<mask> <break> red", False), ("a", False)],
)
def test_prompt_has_gap_inside_text(text: str, gap: bool) -> None:
    assert parse_prompt(text).has_gap is gap


def test_question_and_instruction_of_items() -> None:
    answered = question("is it red?", TextItem("yes", is_answer=True))
    assert question_in([item for item in answered if not isinstance(item, MaskItem)]) == "is it red?"
    assert instruction_in([*edit("make it red"), ImageItem(1)]) == "make it red"
    for other in ([TextItem("a cat"), ImageItem(0)], [ImageItem(0)], [*edit("make it red")], []):
        assert instruction_in(other) == ""
    for other in ([TextItem("a cat"), ImageItem(0)], [ImageItem(0)], []):
        assert question_in(other) == ""
