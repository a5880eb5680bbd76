"""The run folder: the interface between commands."""

import contextlib
import contextvars
import errno
import fcntl
import html
import os
import pathlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from feller import __version__
from feller.core.errors import InputError, UsageError, did_you_mean
from feller.core.migrations import Older, format_of, migrate
from feller.core.serialization import error_path, read_json, write_json

AUX_NETWORKS = ("tokenizer", "vectors", "durations", "rhythm")
"""Networks that data need to be read, written or laid out."""
MANAGED_FILES = (
    *("recipe.json", "model.json", "state.json", "report.json", "report.html", "metrics.jsonl", "preview.png", "lock"),
    *("ledger.json", "exposure.safetensors"),
    *("export.pt2", "export.pt2.json", "export.onnx", "export.onnx.json", "export.json"),
    *("paths.npz", "paths.csv", "pairs.npz", "pairs.csv", "counts.npz", "counts.csv"),
    *(f"{name}.safetensors" for name in ("weights", "average", "state", "judge", "detector", "base", *AUX_NETWORKS)),
)
"""Files of a run; nothing else in its folder is ever removed."""


IGNORED_FILES = ("lock", "spent", "data.csv", "data.npz", "data.jsonl", "populations", "schema.json")
"""What may lie in a folder that holds no run: nobody has to replace it."""
INCOMPLETE_RUN_REMEDY = "If a run is not whole, copy all of it, or fit anew"
"""What to do where a file of a run is missing, for people."""
MOST_NAMED = 20
"""Runs that a message names."""
CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""A report may load nothing and run nothing, whatever a class or a file is called."""
LOCK_ATTEMPTS, LOCK_RETRY_SECONDS = 3, 0.02
"""Times that a lock is tried, and seconds between."""
_HELD: contextvars.ContextVar[frozenset[pathlib.Path]] = contextvars.ContextVar("held", default=frozenset())
"""Folders that are held by what is being done."""


class _File:
    """A file of a run by its name, as an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "Run", kind: type) -> pathlib.Path:
        return run.path / self._name


@dataclass(frozen=True)
class Run:
    """A folder that holds one fitted model and all that was found about it."""

    path: pathlib.Path
    recipe = _File("recipe.json")
    """Record of the request, the recipe and its provenance."""
    model = _File("model.json")
    """Description from which the model is built again."""
    weights = _File("weights.safetensors")
    """The network's weights at the last step."""
    state = _File("state.safetensors")
    """All that a resumed training needs."""
    progress = _File("state.json")
    """Counters of the training, such as steps and seconds."""
    judge = _File("judge.safetensors")
    """The network that judged the samples."""
    detector = _File("detector.safetensors")
    """The network that told made sounds from recorded ones."""
    base = _File("base.safetensors")
    """The weights that a tuned run began with."""
    base_samples = _File("drawn")
    """Samples of the model that `tune` drew before its rounds, for the next tuning that needs the same."""
    metrics = _File("metrics.jsonl")
    """Loss and rate, one JSON object a line."""
    ledger = _File("ledger.json")
    """Privacy ledger of a private run."""
    leakage = _File("exposure.safetensors")
    """Leakage of a private training about single rows, for their owner."""
    preview = _File("preview.png")
    """A few samples of the model as training goes on."""
    samples = _File("samples")
    """Default folder of samples."""

    @property
    def ema_weights(self) -> pathlib.Path:
        """Running average of the weights, which samples are drawn with; a folder for others holds it by their name."""
        ours, exported = self.path / "average.safetensors", self.path / "model.safetensors"
        return exported if exported.is_file() and not ours.exists() else ours

    def aux_weights(self, name: str) -> pathlib.Path:
        """Return the weights of a network that the data need to be read and written."""
        return self.path / f"{name}.safetensors"

    @property
    def previous_ledgers(self) -> "tuple[Run, ...]":
        """Ledgers of private runs that were here before, each with its recipe where that is known, in their order."""
        places = [path for path in (self.path / "spent").glob("*") if path.name.isdecimal() and path.is_dir()]
        return tuple(map(Run, sorted(places, key=lambda path: int(path.name))))

    def new_previous_ledger(self) -> "Run":
        """Make a place for one more."""
        last = max((int(run.path.name) for run in self.previous_ledgers), default=0)
        place = self.path / "spent" / str(last + 1)
        place.mkdir(parents=True)
        return Run(place)

    def output_path(self, out: str | None) -> pathlib.Path:
        """Return where samples go: `out`, or `samples` here.

        Raises:
            InputError: If that is a link: a stranger's run would have them written wherever it leads.
        """
        if out:
            return pathlib.Path(out)
        if self.samples.is_symlink():
            raise InputError(f"{self.samples} is a link", remedy="Remove it, or choose --out")
        return self.samples

    def _repr_html_(self) -> str:
        """Show the report in a notebook: a page of its own, which runs nothing there and loads nothing."""
        return report_iframe(self.path / "report.html", str(self.path))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others from writing here meanwhile; the system frees the lock of a killed process.

        Raises:
            InputError: If another process holds it.
        """
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            not_permitted = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)  # the lock is as it should be
            advice = "Copy the run to where you may write, or choose --out" if not_permitted else "Remove it"
            lock = self.path / "lock"
            raise InputError(f"cannot be locked ({error.strerror})", remedy=advice, file=lock) from error
        with os.fdopen(handle, "r+") as file:
            try:
                _flock_with_retry(file.fileno())
            except BlockingIOError as error:
                raise InputError(
                    f"another process is writing to {self.path}", remedy="Wait for it, or choose another folder"
                ) from error
            with error_path(self.path / "lock"):
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
            for name in MANAGED_FILES:  # what a killed process did not finish
                for path in self.path.glob(f".{name}.????????"):
                    path.unlink(missing_ok=True)
            before = _HELD.set(_HELD.get() | {self.path.resolve()})
            try:
                yield
            finally:
                _HELD.reset(before)

    @property
    def is_locked(self) -> bool:
        """Whether a process is writing here; nothing is written to find that out."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        with os.fdopen(handle) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    @contextlib.contextmanager
    def ensure_lock(self) -> Iterator[None]:
        """Hold the lock, or go on where what is being done holds it, such as a fit that evaluates at its end.

        Raises:
            InputError: If another process holds it.
        """
        with contextlib.nullcontext() if self.path.resolve() in _HELD.get() else self.lock():
            yield

    @contextlib.contextmanager
    def acquire(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Hold the folder for a fit, empty of an older one's files unless it goes on; other files stay, and its ledger.

        Raises:
            InputError: If another process holds it.
            UsageError: If something is there that may not be replaced.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if not resume:
                if not overwrite and is_occupied(self.path):
                    raise UsageError(_exists(self.path))
                if self.ledger.is_file():  # what was spent stays spent
                    archive = self.new_previous_ledger()
                    os.replace(self.ledger, archive.ledger)
                    if self.recipe.is_file():
                        os.replace(self.recipe, archive.recipe)
                old = [self.path / name for name in MANAGED_FILES if name != "lock"]
                half = [path for path in self.path.glob(".*") if _is_half(path.name)]
                for path in (*old, *half, *self.path.glob("report-*.html"), *self.path.glob("report-*.json")):
                    path.unlink(missing_ok=True)
            try:
                yield
            except Exception:
                if not resume:
                    self._clear_unlearned()
                raise

    def _clear_unlearned(self) -> None:
        """Remove what a failed fit wrote if nothing was learned or spent, so that the next one meets no run."""
        if self.ledger.is_file() or any(self.path.glob("*.safetensors")):
            return
        for name in MANAGED_FILES:
            if name != "lock":
                (self.path / name).unlink(missing_ok=True)

    def write_record(self, path: pathlib.Path, content: dict[str, Any]) -> None:
        """Write one of the folder's JSON files, stamped with the versions."""
        write_json(path, {"format": format_of(content), "version": __version__, **content})

    def read_record(self, path: pathlib.Path) -> dict[str, Any]:
        """Read one of the folder's JSON files.

        Raises:
            InputError: If it is missing, damaged, or was written by a newer version.
        """
        content = read_json(path, INCOMPLETE_RUN_REMEDY)
        if not isinstance(content, dict):
            raise InputError("is not a file of a run: expected an object with a number `format`", file=path)
        try:
            return migrate(path.name, content)
        except InputError as error:
            raise error.with_context(file=path) from error

    def read_field(self, path: pathlib.Path, *names: str) -> Any:
        """Read a part of one of the folder's JSON files, by the names that lead to it.

        Raises:
            InputError: As of `read_record`, or if the file has no such part.
        """
        part: Any = self.read_record(path)
        for name in names:
            name = part.key_of(name) if isinstance(part, Older) else name
            if not isinstance(part, dict) or name not in part:
                message = f"lacks {'.'.join(names)!r}: it is damaged, or no run of a fit"
                raise InputError(message, remedy=INCOMPLETE_RUN_REMEDY, file=path)
            part = part[name]
        return part


def report_iframe(page: pathlib.Path, run: str) -> str:
    """Return a page of a run as a part of another, in which it runs nothing and loads nothing."""
    name = html.escape(run)
    if not page.is_file() or page.is_symlink():
        return f"<p>run <code>{name}</code>, without a report yet</p>"
    # the page may be a stranger's
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    inside = html.escape(policy + page.read_text(encoding="utf-8", errors="replace"), quote=True)
    frame = f'<iframe sandbox srcdoc="{inside}" style="width: 100%; height: 40em; border: 1px solid #8888"></iframe>'
    return f"<p>run <code>{name}</code></p>{frame}"


def _flock_with_retry(handle: int) -> None:
    """Take a lock, in spite of those who look for a moment whether it is held."""
    for attempts_left in reversed(range(LOCK_ATTEMPTS)):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not attempts_left:
                raise
            time.sleep(LOCK_RETRY_SECONDS)


def is_occupied(folder: pathlib.Path) -> bool:
    """Tell whether a folder holds more than what runs leave that were refused."""
    return folder.exists() and (not folder.is_dir() or any(path.name not in IGNORED_FILES for path in folder.iterdir()))


def open_run(folder: str | pathlib.Path | None, home: pathlib.Path = pathlib.Path("runs")) -> Run:
    """Return the run in a folder, or the newest under `runs`.

    Raises:
        InputError: If there is none.
    """
    if folder is None:
        runs_at_home = [path.parent for path in home.glob("*/model.json")] if home.is_dir() else []
        if not runs_at_home:
            raise InputError(f"a run under {home}/", "none", "Make one with: feller fit DATA")
        return Run(max(runs_at_home, key=lambda path: (path / "model.json").stat().st_mtime))
    path = pathlib.Path(folder)
    if (path / "model.json").is_file():
        return Run(path)
    if path.is_dir():
        inside = _runs_in(path)
        some = ", ".join([*inside[:MOST_NAMED], *["..."][: len(inside) - MOST_NAMED]])
        hint = f"Name a run in it: {some}" if inside else None
        raise InputError("is a folder but no run: it has no model.json", remedy=hint, file=path)
    names = _runs_in(path.parent)
    hint = did_you_mean(str(path), names) if names else ""
    raise InputError("a run folder", "none", f"{hint[:1].upper()}{hint[1:]}" or None, file=path)


def _runs_in(folder: pathlib.Path) -> list[str]:
    """Return the runs that lie in a folder."""
    return sorted(str(path) for path in folder.glob("*") if (path / "model.json").is_file())


def to_run(run: Run | str | os.PathLike[str]) -> Run:
    """Return a run, or that in a folder, for functions that take either.

    Raises:
        UsageError: If it is neither.
        InputError: If there is none in the folder.
    """
    if isinstance(run, Run):
        return run
    if not isinstance(run, str | os.PathLike):
        raise UsageError("a run or its folder", type(run).__name__)
    return open_run(pathlib.Path(run))


def resumable_run(out: str | None) -> Run:
    """Return the run to go on with, or the newest.

    Raises:
        InputError: If there is none.
    """
    if out is None:
        return open_run(None)
    run = Run(pathlib.Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise InputError("is a file; --out needs a folder", file=run.path)
    if not run.model.is_file():
        raise InputError("a run to resume", "none", "Leave out --resume to start one", file=run.path)
    return run


def target_run(out: str | None, data: str, *, resume: bool, overwrite: bool) -> Run:
    """Return the folder of a run that is to be made or continued; nothing is deleted here.

    Raises:
        UsageError: If the folder exists and neither `--resume` nor `--overwrite` was asked for, or both were.
        InputError: If there is nothing to resume.
    """
    if resume and overwrite:
        raise UsageError("--resume or --overwrite", "both", "Choose one", argument="resume")
    if resume:
        return resumable_run(out)
    if out is None:
        stem = pathlib.Path(
            data.removeprefix("example:").replace("/", "-") if data.startswith("example:") else data
        ).stem
        stem = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem) or "data"
        number = 1
        while is_occupied(path := pathlib.Path("runs") / f"{stem}-{number}"):
            number += 1
        return Run(path)
    run = Run(pathlib.Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise InputError("is a file; --out needs a folder", file=run.path)
    if is_occupied(run.path):
        if not overwrite:
            raise UsageError(_exists(run.path))
        try:
            if not _is_begun(run.path):
                run.read_record(run.model)
                run.read_record(run.recipe)
        except InputError as error:
            raise UsageError(
                "is no run of feller, so --overwrite leaves it alone", remedy="Choose another", file=run.path
            ) from error
    return run


def _is_begun(folder: pathlib.Path) -> bool:
    """Tell whether a folder holds what a fit had locked and written when it was killed, and nothing else."""
    names = {path.name for path in folder.iterdir()}
    return "lock" in names and all(name in MANAGED_FILES or name in IGNORED_FILES or _is_half(name) for name in names)


def _is_half(name: str) -> bool:
    """Tell whether a file is one of ours that was being written, see `replace_file`."""
    return name.startswith(".") and any(name.startswith(f".{one}.") for one in (*MANAGED_FILES, *IGNORED_FILES))


def _exists(path: pathlib.Path) -> str:
    """Say that a run is there already, and how to go on, in words of the command line and of Python."""
    remedies = "continue it with --resume, or replace it with --overwrite"
    return f"{path} exists: {remedies}; in Python, resume=True or overwrite=True"
