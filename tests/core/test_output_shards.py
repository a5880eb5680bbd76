"""Shard manifests: reading, verification, and safety against foreign manifests."""

import hashlib
import json
import os
import pathlib
import re
import tracemalloc

import pytest

from feller import open_shards
from feller.core.errors import InputError
from feller.core.output_shards import MANIFEST, MAX_SAMPLES, OutputShard, ShardedSamples, size_and_hash
from tests.errors import refuses


def written(folder: pathlib.Path, n: int = 5, size: int = 2) -> ShardedSamples:
    folder.mkdir()
    asked = ShardedSamples(folder, n, size, "part-{shard}.txt", {"seed": 0})
    made = []
    for number in range(len(asked)):
        (folder / asked.file_name(number)).write_text(f"{number}\n")
        rows = asked.rows(number)
        made.append(
            OutputShard(
                asked.file_name(number), rows.start, len(rows), *size_and_hash(folder / asked.file_name(number))
            )
        )
    found = ShardedSamples(folder, n, size, asked.name_pattern, asked.settings, tuple(made))
    found.write()
    return found


def change(folder: pathlib.Path, **changed: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**content, **changed}))


def test_shards_are_iterated_in_order(tmp_path: pathlib.Path) -> None:
    written(tmp_path / "many")
    found = open_shards(tmp_path / "many")
    assert [path.read_text() for path in found] == ["0\n", "1\n", "2\n"]
    assert [(one.first, one.count) for one in found.shards] == [(0, 2), (2, 2), (4, 1)]
    assert found.is_finished
    found.verify()


def test_hashes_are_sha256(tmp_path: pathlib.Path) -> None:
    found = written(tmp_path / "many")
    assert found.shards[0].sha256 == hashlib.sha256(b"0\n").hexdigest()
    (tmp_path / "folder" / "b").mkdir(parents=True)
    (tmp_path / "folder" / "b" / "1").write_bytes(b"x")
    (tmp_path / "folder" / "a").write_bytes(b"yz")
    lines = f"{hashlib.sha256(b'yz').hexdigest()}  a\n{hashlib.sha256(b'x').hexdigest()}  b/1\n"
    assert size_and_hash(tmp_path / "folder") == (3, hashlib.sha256(lines.encode()).hexdigest())


NAMES = (
    *("../part-{shard}.txt", "/tmp/{shard}", "..", "part.txt", "{shard}-{shard}", 3),
    *("a" * 250 + "{shard}", "\ud800{shard}", "\0{shard}"),
)
"""Patterns of file names that lead outside the folder, are ambiguous, or name no file."""


@pytest.mark.parametrize(
    "changed",
    [
        *({"name": name} for name in NAMES),
        *({"n": -1}, {"n": 6}, {"shard": 0}, {"n": True}, {"shards": 4}, {"settings": None}, {"format": 99}),
    ],
)
def test_invalid_manifests_are_refused(tmp_path: pathlib.Path, changed: dict[str, object]) -> None:
    written(tmp_path / "many")
    change(tmp_path / "many", **changed)
    with refuses(InputError, file=str(tmp_path / "many" / MANIFEST)):
        open_shards(tmp_path / "many")


def test_files_outside_the_folder_are_refused(tmp_path: pathlib.Path) -> None:
    written(tmp_path / "many")
    content = json.loads((tmp_path / "many" / MANIFEST).read_text())
    content["shards"][0]["file"] = "../secret"
    change(tmp_path / "many", shards=content["shards"])
    with refuses(InputError, file=str(tmp_path / "many" / MANIFEST)):
        open_shards(tmp_path / "many")


@pytest.mark.parametrize("n", [10**6 + 1, 10**9, MAX_SAMPLES, MAX_SAMPLES + 1, 10**30])
def test_huge_sample_counts_need_little_memory(tmp_path: pathlib.Path, n: int) -> None:
    written(tmp_path / "many")
    change(tmp_path / "many", n=n, shard=1)  # with the three shards that are written
    tracemalloc.start()
    try:
        with refuses(InputError, file=str(tmp_path / "many" / MANIFEST)):
            open_shards(tmp_path / "many")
        change(tmp_path / "many", n=n, shard=1, shards=[])
        if n <= MAX_SAMPLES:
            assert not open_shards(tmp_path / "many").is_finished
        else:
            with refuses(InputError):
                open_shards(tmp_path / "many")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_damaged_shards_are_named(tmp_path: pathlib.Path) -> None:
    """Other content, a symbolic link, or a named pipe, which would block a reader; and a manifest without shards."""
    found = written(tmp_path / "many")
    shard = tmp_path / "many" / found.file_name(1)
    for damage in (
        lambda: shard.write_text("7\n"),
        lambda: shard.symlink_to(tmp_path / "many" / found.file_name(0)),
        lambda: os.mkfifo(shard),
    ):
        shard.unlink()
        damage()
        with refuses(InputError, file=str(shard)):
            found.verify()
    change(tmp_path / "many", shards=[])
    with refuses(InputError, file=str(tmp_path / "many")):
        open_shards(tmp_path / "many").verify()


@pytest.mark.parametrize("missing", [["shard", "name", "settings", "shards"], ["shards"]])
def test_missing_fields_of_a_manifest_are_named(tmp_path: pathlib.Path, missing: list[str]) -> None:
    content = {"format": 1, "n": 5, "shard": 2, "name": "{shard}", "settings": {}, "shards": []}
    (tmp_path / MANIFEST).write_text(json.dumps({key: one for key, one in content.items() if key not in missing}))
    with refuses(InputError, file=str(tmp_path / MANIFEST)) as caught:
        open_shards(tmp_path)
    assert re.findall(r"'(\w+)'", caught.value.message) == missing


def test_file_names_are_padded_for_all_shards(tmp_path: pathlib.Path) -> None:
    assert ShardedSamples(tmp_path, 250_000, 2, "{shard}", {}).file_name(7) == "000007"
    assert ShardedSamples(tmp_path, 9, 2, "{shard}", {}).file_name(4) == "00004"


@pytest.mark.parametrize(("name", "n"), [("part-{shard}.txt", 9), ("{shard}", 250_000), ("1{shard}1", 3)])
def test_shard_numbers_follow_from_file_names(tmp_path: pathlib.Path, name: str, n: int) -> None:
    asked = ShardedSamples(tmp_path, n, 2, name, {})
    for number in range(min(len(asked), 9)):
        assert asked.shard_number(asked.file_name(number)) == number
        assert asked.matches_pattern(asked.file_name(number))
    others = (
        "",
        MANIFEST,
        "lock",
        name,
        asked.name_pattern.replace("{shard}", "7"),
        asked.file_name(0) + "0",
        "part-0000\u0661.txt",
    )
    for other in (*others, asked.file_name(len(asked))):
        assert asked.shard_number(other) is None


def test_patterns_without_a_suffix_are_folders(tmp_path: pathlib.Path) -> None:
    for name, are_folders in (
        ("{shard}", True),
        ("run-0.{shard}", True),
        ("a.{shard}b", True),
        ("a-{shard}.npz", False),
    ):
        assert ShardedSamples(tmp_path, 9, 2, name, {}).are_folders == are_folders
