"""Uploads take no more of the disk than they may together."""

import asyncio
import os
import pathlib
import time
from typing import Any

import pytest

from feller.app.webui.access import UPLOAD, Door, Guarded
from feller.app.webui.limits import FRESH, LEAST, Limits, Scratch


@pytest.fixture
def place():
    with Scratch(8) as made:
        yield made


def uploaded(place: Scratch, name: str, size: int, age: float) -> pathlib.Path:
    path = place.uploads / name / "a.png"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_the_oldest_make_room_and_fresh_ones_stay(place: Scratch) -> None:
    old, older, fresh = (
        uploaded(place, name, LEAST, age) for name, age in (("a", FRESH + 50), ("b", FRESH + 90), ("c", 5))
    )
    assert place.makes_room(LEAST, 4 * LEAST)
    assert all(path.exists() for path in (old, older, fresh))
    assert place.makes_room(LEAST, 3 * LEAST)
    assert [path.exists() for path in (old, older, fresh)] == [True, False, True]
    assert not older.parent.exists()
    assert not place.makes_room(3 * LEAST, 3 * LEAST)
    assert [path.exists() for path in (old, fresh)] == [False, True]
    assert place.uploads.is_dir()


def test_small_ones_and_those_on_their_way_count(place: Scratch) -> None:
    uploaded(place, "a", 1, 5)
    assert place.makes_room(1, 2 * LEAST)
    with place.coming(LEAST):
        assert not place.makes_room(1, 2 * LEAST)
    assert place.makes_room(1, 2 * LEAST)


def test_one_too_many_is_told_so(place: Scratch) -> None:
    """Three together, of which the disk may take two."""
    reached, answers = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(len((await receive())["body"]))
        await asyncio.sleep(0.01)  # all are on their way at once
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guarded = Guarded(app, Door(), place, Limits(uploads=2 * LEAST))

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": bytes(LEAST), "more_body": False}

        async def send(message: Any) -> None:
            answers.append(message.get("status", message.get("body")))

        scope = {"type": "http", "path": UPLOAD, "method": "POST", "headers": [(b"host", b"127.0.0.1:7860")]}
        await guarded({**scope, "query_string": b""}, receive, send)

    async def all_of_them() -> None:
        await asyncio.gather(ask(), ask(), ask())

    asyncio.run(all_of_them())
    assert reached == [LEAST, LEAST]
    assert sorted(answers, key=str)[:2] == [200, 200]
    assert 507 in answers
    assert any(b"come again in ten minutes" in answer for answer in answers if isinstance(answer, bytes))
