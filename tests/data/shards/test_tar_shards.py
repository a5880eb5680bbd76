"""Tar shards: what is read is what was written, in an order that a folder would have; damage is told in one line."""

import bz2
import gzip
import json
import lzma
import pathlib
import tarfile
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.batches import batch_loader, split
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.shards import tar_index
from feller.data.shards.tar_index import make_index
from tests.data.shards.written import pictures, pixels, png, tar
from tests.errors import refuses

ONE = ("1.png", png(pixels(1)[0]))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_index.cache_clear()
    return tmp_path


def same_batches(one: Dataset, other: Dataset, steps: int, size: int = 7) -> None:
    first, second = (batch_loader(data, size, Rng(3)) for data in (one, other))
    for step in range(steps):
        a, b = first(step, slice(0, size)), second(step, slice(0, size))
        assert torch.equal(a["x_1"], b["x_1"])
        assert torch.equal(a["given"]["label"], b["given"]["label"])


def in_a_folder(made: np.ndarray, folder: pathlib.Path) -> None:
    for i, picture in enumerate(made):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / str(i % 2) / f"{i:05d}.png")


def test_all_examples_come_with_their_classes_whatever_the_shards_are_called_by():
    made = pictures(pathlib.Path("shards"))
    for source in ("shards", "shards/train-{000..003}.tar", "shards/train-00{0..3}.tar"):
        data = read(source)
        assert data.total == 40
        assert np.array_equal(data.numpy(), made)
        assert data.given["label"].tolist() == [0, 1] * 20
        some = data.take(torch.tensor([39, 0, 17]))
        assert np.array_equal(some.numpy(), made[[39, 0, 17]])
        assert some.given["label"].tolist() == [1, 0, 1]
    assert read("shards/train-001.tar").total == 10


def test_stars_stand_for_shards_in_the_order_of_their_names():
    made = pictures(pathlib.Path("shards"))
    pathlib.Path("shards/notes.txt").write_text("beside them")
    for source in ("shards/train-*.tar", "shards/train-00?.tar", "sh*/train-[0-9]*.tar"):
        assert np.array_equal(read(source).numpy(), made)
    assert np.array_equal(read("shards/train-*[13].tar").numpy(), made.reshape(4, 10, 8, 8)[[1, 3]].reshape(20, 8, 8))
    with refuses(InputError, found="none"):
        read("shards/test-*.tar")
    with pytest.raises(InputError, match=r"expected shards with the suffix .tar or .parquet; found .tar, .txt"):
        read("shards/*")


def test_batches_and_split_are_those_of_a_folder_in_the_same_order():
    made = pictures(pathlib.Path("shards"))
    order = sorted(range(40), key=lambda i: (i % 2, i))  # a folder puts class after class
    parts = [
        m
        for i in order
        for m in ((f"{i:05d}.png", png(made[i])), (f"{i:05d}.json", json.dumps({"label": i % 2}).encode()))
    ]
    tar(pathlib.Path("one/a.tar"), parts[:30])
    tar(pathlib.Path("one/b.tar"), parts[30:])
    in_a_folder(made, pathlib.Path("folder"))
    shards, folder = read("one"), read("folder")
    assert shards.modality == folder.modality
    for seed in (0, 1):
        ours, theirs = split(shards, 0.2, Rng(seed)), split(folder, 0.2, Rng(seed))
        assert torch.equal(ours[1].values, theirs[1].values)
        assert ours[0].total == len(theirs[0])
        same_batches(ours[0], theirs[0], 12)


def test_a_small_sample_changes_no_batch(monkeypatch):
    """What memory holds tells what pictures are like; what a step holds does not depend on it."""
    pictures(pathlib.Path("shards"))
    whole, kept = split(read("shards"))
    monkeypatch.setattr(tar_index.TarImages, "sample_size", 12)
    sampled = read("shards")
    assert len(sampled) == 12
    assert sampled.total == 40
    small, few = split(sampled)
    same_batches(whole, small, 12)
    assert torch.equal(kept.values, few.values)
    held = small.stream.sample_index
    assert torch.equal(small.take(held).values, small.values)


def test_two_processes_read_the_halves_of_the_same_batch():
    pictures(pathlib.Path("shards"))
    data = split(read("shards"))[0]
    both, left, right = (batch_loader(data, 8, Rng(0)) for _ in range(3))
    for step in (0, 1, 9, 4):
        halves = [left(step, slice(0, 4))["x_1"], right(step, slice(4, 8))["x_1"]]
        assert torch.equal(both(step, slice(0, 8))["x_1"], torch.cat(halves))
    assert len(both(2, slice(8, 8))["x_1"]) == 0


def test_a_step_is_the_same_asked_first_or_late():
    pictures(pathlib.Path("shards"))
    data = read("shards")
    late, first = batch_loader(data, 6, Rng(0)), batch_loader(data, 6, Rng(0))
    for step in range(13):
        last = late(step, slice(0, 6))
    assert torch.equal(first(12, slice(0, 6))["x_1"], last["x_1"])


def test_memory_does_not_grow_with_the_shards(monkeypatch):
    """Six times the examples cost a hundred bytes or two each, none of them their 4 kB of pixels."""
    monkeypatch.setattr(tar_index.TarImages, "sample_size", 32)
    peaks = {}
    for n in (100, 600):
        pictures(pathlib.Path(f"shards{n}"), n, 10, side=64)
        make_index.cache_clear()
        tracemalloc.start()
        feed = batch_loader(read(f"shards{n}"), 16, Rng(0))
        for step in range(n // 16):
            feed(step, slice(0, 16))
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[600] - peaks[100] < 500 * 400


def test_texts_longer_or_with_other_characters_than_the_sample_are_known(monkeypatch):
    texts = ["to be", "or not", "that is"] * 10
    texts[17], texts[23] = "z" * 40, "q?"
    tar(pathlib.Path("t/a.tar"), [(f"{i}.txt", text.encode()) for i, text in enumerate(texts)])
    monkeypatch.setattr(tar_index.TarTexts, "sample_size", 4)
    data = read("t")
    assert data.modality.length == 41
    every = data.take(torch.arange(30))
    assert data.modality.texts(every.values) == texts


def test_what_is_no_example_is_ignored_and_said():
    link = tarfile.TarInfo("4.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("5.png")
    device.type = tarfile.CHRTYPE
    shown = [(f"{i}.png", png(picture)) for i, picture in enumerate(pixels(3))]
    tar(pathlib.Path("t/a.tar"), [*shown, ("2.pyd", b"\x80\x04."), ("2.pth", b"\x80"), link, device, ("6.xyz", b"1")])
    data = read("t")
    assert data.total == 3
    said = " ".join(data.notes)
    for part in (
        "links (1)",
        "devices (1)",
        ".pyd (pickle, never loaded) (1)",
        ".pth (",
        ".xyz (1)",
    ):
        assert part in said
    assert {path.name for path in pathlib.Path("t").iterdir()} == {"a.tar"}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], r"a\.tar: expected images .* found none"),
        ([("1.pyd", b"1")], r"found none .*never loaded"),
        ([ONE, ("2.txt", b"a")], r"a\.tar: expected images; found texts in '2'"),
        ([ONE, ("1.txt", b"a")], "captions are documents"),
        ([ONE, ("2.wav", b"a")], r"audio file '2\.wav'"),
        ([ONE, ("1.cls", b"0"), ("2.png", ONE[1])], r"1 of 2 examples .* without a class"),
        ([ONE, ("1.json", b"{")], "invalid class label"),
        ([ONE, ("1.json", b"[" * 100_000)], "invalid class label"),
        ([ONE, ("1.json", b'{"label": [1]}')], "string or an integer"),
        ([ONE, ("2.png", ONE[1]), ("1.cls", b"0")], r"--sort=name"),
        ([ONE, ONE], "unique member names"),
        ([("/1.png", ONE[1])], "paths inside the archive"),
        ([("a/../../1.png", ONE[1])], "paths inside the archive"),
        ([ONE, ("2.png", b"no picture")], r"1 of 2 images cannot be read: .*a\.tar \(2\.png\)"),
        ([ONE, ("2.png", b"")], "bytes; found 0 in"),
        ([("1.txt", b"\xff\xfe\xff"), ("2.txt", b"b")], r"a\.tar \(1\.txt\): expected text in UTF-8"),
    ],
)
def test_bad_members_are_told(parts, said):
    tar(pathlib.Path("t/a.tar"), parts)
    with pytest.raises(InputError, match=said) as error:
        read("t")
    assert "\n" not in str(error.value)


def test_a_picture_that_would_fill_the_memory_is_refused(monkeypatch):
    tar(pathlib.Path("t/a.tar"), [("1.png", png(np.zeros((300, 300), dtype=np.uint8)))])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
    with pytest.raises(InputError, match="decompression bomb"):
        read("t")


def test_holes_are_refused():
    header = tarfile.TarInfo("1.png")
    header.type = tarfile.GNUTYPE_SPARSE
    tar(pathlib.Path("t/a.tar"), [header])
    with pytest.raises(InputError, match="is sparse"):
        read("t")


@pytest.mark.parametrize("name", ["__loop", "README", "2.png", "folder/", "link"])
@pytest.mark.parametrize("size", [-512, -1536, -(2**40)])
def test_a_size_below_nothing_ends_no_shard_and_is_refused(name, size):
    """Whatever it is the size of: a step back leads to the same member for ever."""
    header = tarfile.TarInfo(name)
    header.type = {"folder/": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}.get(name, tarfile.REGTYPE)
    header.pax_headers = {"size": str(size)}
    tar(pathlib.Path("t/a.tar"), [ONE, header])
    with pytest.raises(InputError, match=rf"a\.tar: .*'{name.rstrip('/')}' has a size of -"):
        read("t")


@pytest.mark.parametrize("by", ["gzip", "bzip2", "xz"])
def test_a_packed_shard_is_told_whatever_it_is_called(by):
    pictures(pathlib.Path("shards"), 8, 2)
    shard = pathlib.Path("shards/train-001.tar")
    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[by]
    shard.write_bytes(pack(shard.read_bytes()))
    with pytest.raises(InputError, match=r"train-001\.tar: .*not a tar file"):
        read("shards")


def test_texts_of_blanks_are_left_out_of_the_numbers():
    texts = ["to be", " \n", "or not", "\t", "that is"] * 4
    parts = [
        m for i, text in enumerate(texts) for m in ((f"{i}.txt", text.encode()), (f"{i}.cls", str(i % 5).encode()))
    ]
    tar(pathlib.Path("t/a.tar"), parts)
    data = read("t")
    assert data.total == 12
    every = data.take(torch.arange(12))
    assert data.modality.texts(every.values) == ["to be", "or not", "that is"] * 4
    assert [data.modality.classes[i] for i in every.given["label"]] == ["0", "2", "4"] * 4
    assert any(note.startswith("left out 8 empty texts, the first is t/a.tar (1.txt)") for note in data.notes)
    tar(pathlib.Path("blank/a.tar"), [("1.txt", b" "), ("2.txt", b"\n")])
    with pytest.raises(InputError, match="at least one nonempty text"):
        read("blank")


def test_texts_that_are_longest_in_bytes_or_in_characters_fit(monkeypatch):
    texts = ["to be", "or not", "that is"] * 10
    texts[17], texts[23] = "\u00e4" * 30, "a" * 40
    tar(pathlib.Path("t/a.tar"), [(f"{i}.txt", text.encode()) for i, text in enumerate(texts)])
    monkeypatch.setattr(tar_index.TarTexts, "sample_size", 4)
    for vocabulary in ("characters", "bytes"):
        data = read("t", vocabulary=vocabulary)
        assert data.modality.texts(data.take(torch.arange(30)).values) == texts


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.77])
def test_a_shard_that_was_cut_off_is_told(share):
    pictures(pathlib.Path("shards"))
    shard = pathlib.Path("shards/train-002.tar")
    shard.write_bytes(shard.read_bytes()[: int(share * 40_000) // 2])
    with pytest.raises(InputError, match=r"train-002\.tar"):
        read("shards")


def test_a_damaged_header_loses_no_example_silently():
    pictures(pathlib.Path("shards"))
    shard = pathlib.Path("shards/train-001.tar")
    with tarfile.open(shard) as file:
        place = file.getmembers()[3].offset
    content = bytearray(shard.read_bytes())
    content[place + 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"train-001\.tar: .* after '00011\.png'"):
        read("shards")


def test_a_shard_that_was_cut_off_between_two_members_is_told():
    pictures(pathlib.Path("shards"))
    shard = pathlib.Path("shards/train-003.tar")
    with tarfile.open(shard) as file:
        place = file.getmembers()[8].offset
    shard.write_bytes(shard.read_bytes()[:place])
    with pytest.raises(InputError, match=r"train-003\.tar: .*missing end of archive"):
        read("shards")


def test_bits_that_flip_are_told_or_do_no_harm():
    """Bits of headers and of what they are behind; whatever comes of it is read, or told in one line."""
    pictures(pathlib.Path("shards"), 6, 1)
    shard, generator = pathlib.Path("shards/train-000.tar"), np.random.default_rng(0)
    content, told = shard.read_bytes(), []
    for _ in range(60):
        damaged = bytearray(content)
        for place in generator.integers(0, 6 * 2048, 3):
            damaged[place] ^= 1 << int(generator.integers(8))
        shard.write_bytes(damaged[: int(generator.integers(len(damaged) // 2, len(damaged) + 1))])
        try:
            data = read("shards")
            batch_loader(data, 3, Rng(0))(0, slice(0, 3))
        except InputError as error:
            told.append(str(error))
    assert not any("\n" in line for line in told)
    assert len(told) > 20


def test_a_folder_of_pictures_stays_one_whatever_lies_beside_them():
    in_a_folder(pixels(12), pathlib.Path("folder"))
    tar(pathlib.Path("folder/backup.tar"), [ONE])
    assert read("folder").stream is None
    assert len(read("folder")) == 12


def test_two_tars_behind_each_other_are_told():
    pictures(pathlib.Path("shards"), 40, 1, side=256)
    shard = pathlib.Path("shards/train-000.tar")
    shard.write_bytes(shard.read_bytes() * 2)
    with pytest.raises(InputError, match="damaged after"):
        read("shards")


def test_a_shard_that_is_written_to_meanwhile_is_refused():
    pictures(pathlib.Path("shards"))
    feed = batch_loader(read("shards"), 40, Rng(0))
    feed._read(0, slice(0, 40))
    shard = pathlib.Path("shards/train-000.tar")
    shard.write_bytes(shard.read_bytes())
    with pytest.raises(InputError, match=r"train-000\.tar: changed while"):
        feed(7, slice(0, 40))


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        (
            "shards/none-{000..003}.tar",
            InputError,
            "expected 4 shards; found no file; the first missing shard is shards/none-000",
        ),
        ("shards/train-{000..005}.tar", InputError, "2 missing; the first missing shard is shards/train-004"),
        ("shards/train-{000..003.tar", UsageError, "in quotes"),
        ("shards/train-{0..99999999999}.tar", UsageError, "more than 100,000"),
        ("shards/none.tar", InputError, "found none"),
        ("s3://bucket/train-{000..003}.tar", InputError, "expected local files"),
        ("pipe:touch hacked #.tar", InputError, "expected local files"),
    ],
)
def test_names_that_stand_for_nothing_are_told(source, kind, said):
    pictures(pathlib.Path("shards"))
    with pytest.raises(kind, match=said):
        read(source)
    assert not pathlib.Path("hacked").exists()


def test_kinds_are_not_mixed_and_packed_shards_are_refused():
    pictures(pathlib.Path("shards"))
    tar(pathlib.Path("shards/train-009.tar"), [("1.txt", b"a")])
    with pytest.raises(InputError, match=r"train-009\.tar: expected images, as in .*train-000\.tar; found texts"):
        read("shards")
    pathlib.Path("shards/x.parquet").write_bytes(b"1")
    with pytest.raises(InputError, match="one type"):
        read("shards")
    pathlib.Path("x.tar.gz").write_bytes(b"1")
    with pytest.raises(InputError, match="uncompressed"):
        read("x.tar.gz")


def test_without_the_extra_its_name_is_told(monkeypatch):
    pictures(pathlib.Path("shards"))
    monkeypatch.setitem(__import__("sys").modules, "braceexpand", None)
    with pytest.raises(UsageError, match=r"pip install 'feller\[stream\]'"):
        read("shards/train-{000..003}.tar")
