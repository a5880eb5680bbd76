"""What answers before the page is there, and how the page takes its place."""

import asyncio
import logging
from typing import Any

import pytest

from feller.app.webui.access import Door
from feller.app.webui.asgi import Front
from feller.app.webui.server import serve
from feller.core.errors import InputError
from feller.core.run_folder import Run


async def asked(front: Front, path: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    await front({"type": "http", "path": path, "method": "GET"}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def test_it_answers_at_once_and_gives_way_to_the_page() -> None:
    lived: list[str] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                kind = (await receive())["type"]
                lived.append(kind)
                await send({"type": f"{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"the page"})

    async def main() -> None:
        front, told, said = Front(), asyncio.Queue[Any](), []

        async def send(message: Any) -> None:
            said.append(message["type"])

        life = asyncio.create_task(front({"type": "lifespan"}, told.get, send))
        await told.put({"type": "lifespan.startup"})
        while not said:
            await asyncio.sleep(0)
        status, body = await asked(front, "/")
        assert (status, b'http-equiv="refresh"' in body) == (200, True)
        assert (await asked(front, "/config"))[0] == 503
        assert await asked(front, "/favicon.ico") == (204, b"")
        waiting = asyncio.create_task(asked(front, "/"))
        await asyncio.sleep(0)  # it has begun
        await asyncio.to_thread(front.show, page, 10.0)
        await asyncio.wait_for(waiting, 0.5)  # and ends at once, not after its second
        assert await asked(front, "/") == (200, b"the page")
        await told.put({"type": "lifespan.shutdown"})
        await life
        assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(main())
    assert lived == ["lifespan.startup", "lifespan.shutdown"]


def test_a_page_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        Front().show(lambda *_: asyncio.sleep(0), 1.0)  # type: ignore[arg-type]

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def main() -> None:
        front, told = Front(), asyncio.Queue[Any]()

        async def send(message: Any) -> None:
            pass

        life = asyncio.create_task(front({"type": "lifespan"}, told.get, send))
        await told.put({"type": "lifespan.startup"})
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="no"):
            await asyncio.to_thread(front.show, page, 10.0)
        life.cancel()

    asyncio.run(main())


def test_logs_of_others_stay_open() -> None:
    """The server's own set-up of logging would close all handlers that there are, some with their streams."""
    closed = []

    class Handler(logging.Handler):
        def close(self) -> None:
            closed.append(self)
            super().close()

    def none() -> list[Run]:
        raise InputError("there is no run")

    handler = Handler()
    with pytest.raises(InputError, match="there is no run"):
        serve(none, door=Door("127.0.0.1", 0, None))
    assert not closed
    handler.close()
