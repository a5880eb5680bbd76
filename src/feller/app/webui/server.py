"""The server of the page, which answers at once: what takes long to load is imported behind it."""

import contextlib
import importlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from feller.app.reporter import SILENT, Tell
from feller.app.webui.access import Door, Guarded, is_loopback
from feller.app.webui.asgi import Front, keep_here
from feller.app.webui.limits import Limits, Scratch
from feller.core.errors import InputError
from feller.core.interrupts import interrupts
from feller.core.run_folder import Run

GIVE_UP = 5
"""Seconds in which requests may end after the page was stopped."""
STEP = 0.05
"""Seconds between two looks at whether it was."""
ANYWHERE = ("0.0.0.0", "::")
"""Every address of this machine; browsers elsewhere open it by its name."""
PATIENCE = 60.0
"""Seconds in which the server must start, and the page in it."""


@dataclass(frozen=True)
class Address:
    """Where the page is."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a browser, also on another machine where the page answers on all addresses of this one."""
        named = socket.gethostname() if self.host in ANYWHERE else self.host
        host = f"[{named}]" if ":" in named else named
        return f"http://{host}:{self.port}/"


def serve(
    runs: Callable[[], Sequence[Run]],
    *,
    door: Door = Door(),  # noqa: B008 - frozen
    rewards: tuple[str, ...] = (),
    memory: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    tell: Tell = SILENT,
) -> Address:
    """Show runs in the browser until somebody stops it.

    Args:
        runs: Finds what is shown; called once the address answers.
        door: Address, and who may come in.
        rewards: What may be wished for, in words; their code runs, so whoever starts the page names them.
        memory: Documents that models may look up.
        limits: How much one visitor may ask for.
        tell: Hears where the page is.

    Raises:
        InputError: If a run is damaged, or the address is taken.
        UsageError: If Gradio is not installed.
    """
    with Scratch(limits.kept) as scratch, closing(_listening(door)) as listening:
        keep_here(scratch.uploads)
        address, front = Address(door.host, listening.getsockname()[1]), Front()
        config = _uvicorn().Config(
            Guarded(front, door, scratch, limits),
            log_config=None,  # its own would close the handlers of whoever logs in this process
            log_level="error",
            access_log=False,
            lifespan="on",
        )
        config.timeout_graceful_shutdown = GIVE_UP
        with _running(_uvicorn().Server(config), listening) as lives, interrupts() as stopped:
            tell.say(f"opening {address.url}, which shows itself as soon as it is made")
            place = _place(runs(), scratch=scratch, limits=limits, rewards=rewards, memory=memory)
            front.show(application(place), PATIENCE)
            _announce(address, door, tell)
            while lives() and not stopped.wait(STEP):
                pass
            tell.say("stopping: what is being worked on may end")
    return address


def application(place: Any) -> Any:
    """Return the page of a `Place` as an ASGI application, which needs a guard before it."""
    from feller.app.webui.button_presses import pressed
    from feller.app.webui.page import build, warm
    from feller.app.webui.widgets import script, style, theme

    blocks = build(place)
    app = importlib.import_module("gradio").mount_gradio_app(
        importlib.import_module("fastapi").FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
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
        head=script(),
    )
    blocks.has_launched = True  # mounted pages check where files lie only then
    threading.Thread(target=warm, args=(place,), daemon=True).start()
    return pressed(app, blocks)


def _place(runs: Sequence[Run], **around: Any) -> Any:
    """Return all runs, and what is around them, once what takes long to load is needed."""
    from feller.app.webui.loaded_run import opened
    from feller.app.webui.tab import Place

    return Place(runs=opened([*runs]), **around)


def _uvicorn() -> Any:
    """Return the server, without what our other packages bring along."""
    try:
        return importlib.import_module("uvicorn")
    except ImportError:
        from feller.data.speech.optional_dependency import need

        return need("uvicorn", "a page in the browser", "serve")


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


@contextlib.contextmanager
def _running(server: Any, listening: socket.socket) -> Iterator[Callable[[], bool]]:
    """Answer requests in a thread until the end of the block; gives what tells whether it still does."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while thread.is_alive() and not server.started and time.monotonic() < deadline:
        time.sleep(STEP)
    try:
        yield thread.is_alive
    finally:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is cut off now is no error
        server.should_exit = True
        thread.join(GIVE_UP + 1)


def _announce(address: Address, door: Door, tell: Tell) -> None:
    """Say where the page is."""
    tell.say(f"the page is at {address.url}; stop it with Ctrl-C")
    if door.token is not None:
        written = "?token=..., with the text of --token, or type it there"
        tell.say(
            f"visitors open {address.url}{written if door.fits_address else ', and type the text of --token there'}"
        )
    if not is_loopback(door.host):
        tell.say("it speaks plain HTTP: whoever sees the traffic sees the token; put it behind TLS, or use ssh -L")
