"""The server of the page."""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from feller.data.speech.extra import need
from feller.errors import InputError
from feller.journeys.learn import interrupts
from feller.journeys.tell import SILENT, Tell
from feller.run import Run
from feller.studio.access import Door, is_loopback
from feller.studio.guard import Guarded
from feller.studio.limits import Limits
from feller.studio.offline import keep_here
from feller.studio.opened import opened
from feller.studio.scratch import Scratch
from feller.studio.tab import Place

GIVE_UP = 5
"""Seconds in which requests may end after the page was stopped."""
STEP = 0.05
"""Seconds between two looks at whether it was."""


@dataclass(frozen=True)
class Address:
    """Where the page is."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"


def serve(
    runs: Sequence[Run],
    *,
    door: Door = Door(),  # noqa: B008 - frozen
    rewards: tuple[str, ...] = (),
    limits: Limits = Limits(),  # noqa: B008 - frozen
    tell: Tell = SILENT,
    ready: Callable[[Address], None] = lambda address: None,
) -> Address:
    """Show runs in the browser until somebody stops it.

    Args:
        runs: What is shown.
        door: Address, and who may come in.
        rewards: What may be wished for, in words; their code runs, so whoever starts the page names them.
        limits: How much one visitor may ask for.
        tell: Hears where the page is.
        ready: Hears where the page is, once it answers.

    Raises:
        InputError: If a run is damaged, or the address is taken.
        UsageError: If Gradio is not installed.
    """
    with Scratch(limits.kept) as scratch, closing(_listening(door)) as listening:
        keep_here(scratch.uploads)
        uvicorn: Any = need("uvicorn", "a page in the browser", "serve")
        place = Place(runs=opened([*runs]), scratch=scratch, limits=limits, rewards=rewards)
        config = uvicorn.Config(application(place, door), log_level="error", access_log=False, lifespan="on")
        config.timeout_graceful_shutdown = GIVE_UP
        address = Address(door.host, listening.getsockname()[1])
        _until_stopped(uvicorn.Server(config), listening, lambda: _announce(address, door, tell, ready))
    return address


def application(place: Place, door: Door) -> Guarded:
    """Return the page behind its guard."""
    from feller.studio.page import build, style, theme

    fastapi: Any = need("fastapi", "a page in the browser", "serve")
    gradio: Any = need("gradio", "a page in the browser", "serve")
    blocks = build(place)
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        blocks,
        path="",
        footer_links=[],
        run_history=False,
        allowed_paths=[str(place.scratch.path)],
        show_error=False,
        max_file_size=place.limits.upload,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=style(),
    )
    blocks.has_launched = True  # mounted pages check where files lie only then
    return Guarded(app, door, place.scratch, place.limits)


def _listening(door: Door) -> socket.socket:
    """Take the address, before anything is read.

    Raises:
        InputError: If it is taken.
    """
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((door.host, door.port))
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise InputError(
            f"{door.host}:{door.port} cannot be used ({error.strerror or error}); choose another --port, or 0 for any"
        ) from error
    return listening


def _until_stopped(server: Any, listening: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests until Ctrl-C or a request to end, which are the usual end of a page and no error."""
    with interrupts() as stopped:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while thread.is_alive() and not server.started and not stopped.wait(STEP):
            pass
        if server.started:
            started()
        while thread.is_alive() and not stopped.wait(STEP):
            pass
        server.should_exit = True
        thread.join(GIVE_UP + 1)


def _announce(address: Address, door: Door, tell: Tell, ready: Callable[[Address], None]) -> None:
    """Say where the page is."""
    tell.say(f"the page is at {address.url}; stop it with Ctrl-C")
    if not is_loopback(door.host):
        tell.say("it speaks plain HTTP: whoever sees the traffic sees the token; put it behind TLS, or use ssh -L")
    ready(address)
