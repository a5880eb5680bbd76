"""Tar shards of images and texts, compared with folders."""

import bz2
import gzip
import json
import lzma
import pathlib
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import NotInstalledError
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


def assert_equal_batches(one: Dataset, other: Dataset, steps: int, size: int = 7) -> None:
    first, second = (batch_loader(data, size, Rng(3)) for data in (one, other))
    for step in range(steps):
        a, b = first(step, slice(0, size)), second(step, slice(0, size))
        assert torch.equal(a["x_1"], b["x_1"])
        assert torch.equal(a["given"]["label"], b["given"]["label"])


def write_class_folders(images: np.ndarray, folder: pathlib.Path) -> None:
    for i, picture in enumerate(images):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / str(i % 2) / f"{i:05d}.png")


def test_images_and_classes_of_folder_and_brace_patterns():
    images = pictures(pathlib.Path("shards"))
    for source in ("shards", "shards/train-{000..003}.tar", "shards/train-00{0..3}.tar"):
        data = read(source)
        assert data.total == 40
        assert np.array_equal(data.numpy(), images)
        assert data.given["label"].tolist() == [0, 1] * 20
        some = data.take(torch.tensor([39, 0, 17]))
        assert np.array_equal(some.numpy(), images[[39, 0, 17]])
        assert some.given["label"].tolist() == [1, 0, 1]
    assert read("shards/train-001.tar").total == 10


def test_glob_patterns():
    images = pictures(pathlib.Path("shards"))
    pathlib.Path("shards/notes.txt").write_text("no shard")
    for source in ("shards/train-*.tar", "shards/train-00?.tar", "sh*/train-[0-9]*.tar"):
        assert np.array_equal(read(source).numpy(), images)
    odd = images.reshape(4, 10, 8, 8)[[1, 3]].reshape(20, 8, 8)
    assert np.array_equal(read("shards/train-*[13].tar").numpy(), odd)
    for source, found in (("shards/test-*.tar", "none"), ("shards/*", ".tar, .txt")):
        with refuses(InputError, found=found):
            read(source)


def test_batches_and_split_equal_those_of_a_folder():
    images = pictures(pathlib.Path("shards"))
    order = sorted(range(40), key=lambda i: (i % 2, i))  # a folder puts class after class
    parts = [
        m
        for i in order
        for m in ((f"{i:05d}.png", png(images[i])), (f"{i:05d}.json", json.dumps({"label": i % 2}).encode()))
    ]
    tar(pathlib.Path("one/a.tar"), parts[:30])
    tar(pathlib.Path("one/b.tar"), parts[30:])
    write_class_folders(images, pathlib.Path("folder"))
    shards, folder = read("one"), read("folder")
    assert shards.modality == folder.modality
    for seed in (0, 1):
        of_shards, of_folder = split(shards, 0.2, Rng(seed)), split(folder, 0.2, Rng(seed))
        assert torch.equal(of_shards[1].values, of_folder[1].values)
        assert of_shards[0].total == len(of_folder[0])
        assert_equal_batches(of_shards[0], of_folder[0], 12)


def test_batches_do_not_depend_on_sample_size(monkeypatch):
    pictures(pathlib.Path("shards"))
    whole, kept = split(read("shards"))
    monkeypatch.setattr(tar_index.TarImages, "sample_size", 12)
    sampled = read("shards")
    assert len(sampled) == 12
    assert sampled.total == 40
    small, few = split(sampled)
    assert_equal_batches(whole, small, 12)
    assert torch.equal(kept.values, few.values)
    held = small.stream.sample_index
    assert torch.equal(small.take(held).values, small.values)


def test_batches_do_not_depend_on_ranks_or_earlier_steps():
    pictures(pathlib.Path("shards"))
    data = split(read("shards"))[0]
    both, left, right = (batch_loader(data, 8, Rng(0)) for _ in range(3))
    for step in (0, 1, 9, 4):
        halves = [left(step, slice(0, 4))["x_1"], right(step, slice(4, 8))["x_1"]]
        assert torch.equal(both(step, slice(0, 8))["x_1"], torch.cat(halves))
    assert len(both(2, slice(8, 8))["x_1"]) == 0
    for step in range(13):
        last = both(step, slice(0, 8))
    assert torch.equal(batch_loader(data, 8, Rng(0))(12, slice(0, 8))["x_1"], last["x_1"])


def test_memory_does_not_grow_with_the_shards(monkeypatch):
    """500 more examples cost less than 400 bytes each, one tenth of their 4 kB of pixels."""
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


@pytest.mark.parametrize("long", [("z" * 40, "q?"), ("ä" * 30, "a" * 40)], ids=["characters", "bytes"])
def test_texts_outside_the_sample_fit(monkeypatch, long):
    """Texts longer than those of the sample, in characters or bytes, and with other characters."""
    texts = ["to be", "or not", "that is"] * 10
    texts[17], texts[23] = long
    tar(pathlib.Path("t/a.tar"), [(f"{i}.txt", text.encode()) for i, text in enumerate(texts)])
    monkeypatch.setattr(tar_index.TarTexts, "sample_size", 4)
    assert read("t").modality.length == 41
    for vocabulary in ("characters", "bytes"):
        data = read("t", vocabulary=vocabulary)
        assert data.modality.texts(data.take(torch.arange(30)).values) == texts


def test_other_members_are_ignored():
    """Links, devices and pickles among them."""
    link = tarfile.TarInfo("4.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("5.png")
    device.type = tarfile.CHRTYPE
    shown = [(f"{i}.png", png(picture)) for i, picture in enumerate(pixels(3))]
    tar(pathlib.Path("t/a.tar"), [*shown, ("2.pyd", b"\x80\x04."), ("2.pth", b"\x80"), link, device, ("6.xyz", b"1")])
    data = read("t")
    assert data.total == 3
    assert all(suffix in " ".join(data.notes) for suffix in (".pyd", ".pth", ".xyz"))
    assert {path.name for path in pathlib.Path("t").iterdir()} == {"a.tar"}


def sparse(name: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type = tarfile.GNUTYPE_SPARSE
    return header


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ([], {"found": "none"}),
        ([("1.pyd", b"1")], {}),
        ([ONE, ("2.txt", b"a")], {"found": "texts in '2'"}),
        ([ONE, ("1.txt", b"a")], {"file": "t", "found": ".png and .txt in t/a.tar: '1'"}),
        ([ONE, ("2.wav", b"a")], {"found": "the audio file '2.wav'"}),
        ([ONE, ("1.cls", b"0"), ("2.png", ONE[1])], {"found": "1 of 2 examples up to '2' without a class"}),
        ([ONE, ("1.json", b"{")], {"file": "t", "place": "/a.tar: '1'"}),
        ([ONE, ("1.json", b"[" * 100_000)], {"file": "t", "place": "/a.tar: '1'"}),
        ([ONE, ("1.json", b'{"label": [1]}')], {"file": "t", "place": "/a.tar: '1'", "found": "[1]"}),
        ([ONE, ("2.png", ONE[1]), ("1.cls", b"0")], {"place": "'1'"}),
        ([ONE, ONE], {"found": "two members named '1.png'"}),
        ([("/1.png", ONE[1])], {"found": "'/1.png'"}),
        ([("a/../../1.png", ONE[1])], {"found": "'a/../../1.png'"}),
        ([sparse("1.png")], {}),
        ([ONE, ("2.png", b"no picture")], {"file": "t"}),
        ([ONE, ("2.png", b"")], {"file": "t", "found": "0 in t/a.tar: '2'"}),
        ([("1.txt", b"\xff\xfe\xff"), ("2.txt", b"b")], {"file": "t", "place": "/a.tar (1.txt)"}),
    ],
)
def test_invalid_members_are_refused(members, fields):
    tar(pathlib.Path("t/a.tar"), members)
    with refuses(InputError, **{"file": "t/a.tar", **fields}):
        read("t")


def test_decompression_bombs_are_refused(monkeypatch):
    tar(pathlib.Path("t/a.tar"), [("1.png", png(np.zeros((300, 300), dtype=np.uint8)))])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
    with refuses(InputError, file="t"):
        read("t")


@pytest.mark.parametrize(
    ("name", "size"),
    [("__loop", -512), ("README", -1536), ("2.png", -(2**40)), ("2.png", -512), ("folder/", -1536), ("link", -512)],
)
def test_negative_member_sizes_are_refused(name, size):
    """A step back would lead to the same member in an endless loop."""
    header = tarfile.TarInfo(name)
    header.type = {"folder/": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}.get(name, tarfile.REGTYPE)
    header.pax_headers = {"size": str(size)}
    tar(pathlib.Path("t/a.tar"), [ONE, header])
    with refuses(InputError, file="t/a.tar"):
        read("t")


def test_empty_texts_are_left_out():
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
    assert any("t/a.tar (1.txt)" in note for note in data.notes)
    tar(pathlib.Path("blank/a.tar"), [("1.txt", b" "), ("2.txt", b"\n")])
    with refuses(InputError, file="blank", place="/a.tar (1.txt)", found="none"):
        read("blank")


def offset(shard: pathlib.Path, member: int) -> int:
    with tarfile.open(shard) as file:
        return file.getmembers()[member].offset


def flip_header(shard: pathlib.Path) -> bytes:
    """Flip one bit of a member's header."""
    content = bytearray(shard.read_bytes())
    content[offset(shard, 3) + 3] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda shard: shard.read_bytes()[:400],
        lambda shard: shard.read_bytes()[:15_400],
        lambda shard: shard.read_bytes()[: offset(shard, 8)],
        flip_header,
        lambda shard: gzip.compress(shard.read_bytes()),
        lambda shard: bz2.compress(shard.read_bytes()),
        lambda shard: lzma.compress(shard.read_bytes()),
    ],
    ids=["cut-in-header", "cut-in-member", "cut-between", "header", "gzip", "bzip2", "xz"],
)
def test_damaged_and_compressed_shards_are_refused(damaged):
    pictures(pathlib.Path("shards"))
    shard = pathlib.Path("shards/train-002.tar")
    shard.write_bytes(damaged(shard))
    with refuses(InputError, file=str(shard)):
        read("shards")


def test_flipped_bits_give_data_or_input_error():
    pictures(pathlib.Path("shards"), 6, 1)
    shard, generator = pathlib.Path("shards/train-000.tar"), np.random.default_rng(0)
    content, messages = shard.read_bytes(), []
    for _ in range(60):
        damaged = bytearray(content)
        for place in generator.integers(0, 6 * 2048, 3):
            damaged[place] ^= 1 << int(generator.integers(8))
        shard.write_bytes(damaged[: int(generator.integers(len(damaged) // 2, len(damaged) + 1))])
        try:
            data = read("shards")
            batch_loader(data, 3, Rng(0))(0, slice(0, 3))
        except InputError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert len(messages) > 20


def test_folder_of_images_with_a_tar_file_is_a_folder():
    write_class_folders(pixels(12), pathlib.Path("folder"))
    tar(pathlib.Path("folder/backup.tar"), [ONE])
    assert read("folder").stream is None
    assert len(read("folder")) == 12


def test_concatenated_shards_are_refused():
    pictures(pathlib.Path("shards"), 40, 1, side=256)
    shard = pathlib.Path("shards/train-000.tar")
    shard.write_bytes(shard.read_bytes() * 2)
    with refuses(InputError, file=str(shard)):
        read("shards")


def test_shards_changed_while_training_are_refused():
    pictures(pathlib.Path("shards"))
    feed = batch_loader(read("shards"), 40, Rng(0))
    feed._read(0, slice(0, 40))
    shard = pathlib.Path("shards/train-000.tar")
    shard.write_bytes(shard.read_bytes())
    with refuses(InputError, file=str(shard)):
        feed(7, slice(0, 40))


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("shards/none-{000..003}.tar", InputError),
        ("shards/train-{000..005}.tar", InputError),
        ("shards/train-{000..003.tar", UsageError),
        ("shards/train-{0..99999999999}.tar", UsageError),
        ("shards/none.tar", InputError),
        ("s3://bucket/train-{000..003}.tar", InputError),
        ("pipe:touch hacked #.tar", InputError),
    ],
)
def test_invalid_patterns_are_refused(source, kind):
    pictures(pathlib.Path("shards"))
    with refuses(kind, file=source):
        read(source)
    assert not pathlib.Path("hacked").exists()


def test_mixed_shards_and_compressed_names_are_refused():
    pictures(pathlib.Path("shards"))
    tar(pathlib.Path("shards/train-009.tar"), [("1.txt", b"a")])
    with refuses(InputError, file="shards/train-009.tar"):
        read("shards")
    pathlib.Path("shards/x.parquet").write_bytes(b"1")
    pathlib.Path("x.tar.gz").write_bytes(b"1")
    for source in ("shards", "x.tar.gz"):
        with refuses(InputError, file=source):
            read(source)


def test_missing_package_is_refused(monkeypatch):
    pictures(pathlib.Path("shards"))
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    with refuses(NotInstalledError):
        read("shards/train-{000..003}.tar")
