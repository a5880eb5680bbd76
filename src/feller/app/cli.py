"""The command line: finds the command, runs it, and says in one line what went wrong."""

import errno
import importlib
import json
import os
import re
import select
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from feller import __version__
from feller.app.reporter import is_main_process
from feller.core.errors import BAD_PATH_ERRNOS, DISK_FULL_ERRNOS, InputError, UsageError, is_out_of_memory
from feller.core.user_code import user_frame

COMMANDS = {
    "fit": ("FitConfig", "Fit a model to data and write a run folder."),
    "sample": ("SampleConfig", "Draw samples from a run."),
    "steer": ("SteerConfig", "Draw samples that are as wished, without training."),
    "tune": ("TuneConfig", "Change a model so that it does what is wished for."),
    "bridge": ("BridgeConfig", "Join two populations, or more, by paths that cost least."),
    "evaluate": ("EvaluateConfig", "Compare samples with real data, and write the report."),
    "audit": ("AuditConfig", "Say what could be learned about single rows from a run."),
    "data": ("Data", "List the examples inside the package, or look into data."),
    "export": ("ExportConfig", "Write a run's network for other programs (ONNX, torch.export, Hugging Face folder)."),
    "import": ("Import", "Make a run of a network of your own."),
    "cite": ("Cite", "Print the papers that a run uses, as BibTeX."),
    "doctor": ("Doctor", "Tell whether feller can work here, and how fast."),
    "completion": ("Completion", "Print what lets a shell complete commands and flags."),
    "serve": ("Serve", "Show runs as a page in the browser."),
    "reproduce": ("Reproduce", "Test a paper's claims at laptop scale."),
}

MODULES = {"import": "import_"}
"""Files of commands whose names Python keeps for itself."""

SIGPIPE_STATUS = 141
"""What shells call the end of a program whose output nobody reads any more."""
FIELD = re.compile(r"[a-z]\w*(\.[a-z]\w*)+")
"""Path of a field of a recipe, which is a flag; a method of the user's has its file and line behind it."""
GRACE = 10.0
"""Seconds after which a process other than the first says why it fails: a busy machine takes some to end the first."""
LOST_PEER_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Words of messages on processes that cannot be reached any more."""
TRACEBACK = "FELLER_TRACEBACK"
"""Environment variable that asks for all calls that led to an error in code of the user's own."""


def overview() -> str:
    """Return what `feller --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: feller COMMAND ...",
            "",
            "Fit Markov processes to real data and put them to work.",
            "",
            "commands:",
            *lines,
            "",
            "first steps:",
            "  feller fit example:digits      a model of handwritten digits, with a report",
            "  feller sample -n 100           samples of the newest run",
            "  feller COMMAND --help          all flags of a command",
            "  feller COMMAND --device cpu    cpu, cuda or cuda:NUMBER; by default the fastest there is",
        ]
    )


def find_command(name: str) -> tuple[type, str, Callable[[Any, list[str]], dict[str, Any]]]:
    """Return the class of a command's words, the flag with which its help shows deeper fields, and what runs it."""
    module = importlib.import_module(f"feller.app.commands.{MODULES.get(name, name)}")
    kind = COMMANDS[name][0]
    if kind.endswith("Config"):
        config = importlib.import_module("feller.app.config")
        return getattr(config, kind), getattr(module, "NESTED_HELP_FLAG", ""), module.run
    return getattr(module, kind), "", lambda command, words: command.run(words)


def run(words: list[str]) -> int:
    """Run one command and return the exit status."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    name, *rest = words
    if name not in COMMANDS:
        raise UsageError.unknown_name("command", name, COMMANDS)
    from feller.app.commands.arguments import parse, take_device
    from feller.app.options import values_of

    rest = take_device(rest)
    kind, deep, execute = find_command(name)
    whole_tree = deep and deep in rest and any(word in ("-h", "--help") for word in rest)
    if whole_tree:  # the recipe's fields too, so the command itself must not answer
        rest = [word for word in rest if word not in ("-h", "--help")]
    command, deeper = parse(kind, name, rest, allow_nested=bool(deep))
    result = execute(command, [*deeper, "--help"] if whole_tree else deeper)
    if values_of(command)["json"] and is_main_process():
        print(json.dumps(result))
    return command.status(result) if hasattr(command, "status") else 0


def main(words: list[str] | None = None) -> int:
    """Run `feller`; returns 0 done, 1 failed on what it was given, 2 wrong use, 130 interrupted, 141 unread."""
    # Threads that wait for each other shall not keep the cores from others: on a busy machine that costs a factor.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if not is_main_process():  # what all processes would be warned of, the first one is
        warnings.simplefilter("ignore")
    try:
        status = run(sys.argv[1:] if words is None else words)
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _fail(_error_text(error, words), 2, _traceback_text())
    except InputError as error:
        return _fail(_error_text(error, words), 1, _traceback_text())
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130) if is_main_process() else 130  # all processes hear it
    except SystemExit as end:
        if own := user_frame(end):
            return _fail(str(InputError(own)), 1, _traceback_text())
        raise  # the parser of words, as after --help
    except BrokenPipeError as error:
        return SIGPIPE_STATUS if _is_broken_pipe() else _fail_unexpectedly(error)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            place = f" at {error.filename}" if error.filename else ""
            return _fail(f"the disk is full{place}: make room; files that were written before are whole", 1)
        is_path_error = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)
        if is_path_error or error.errno in BAD_PATH_ERRNOS:
            advice = ". Name another place" if error.errno == errno.EROFS else ""
            return _fail(f"{error.filename or 'the disk'}: {error.strerror}{advice}", 1)
        return _fail_unexpectedly(error)
    except Exception as error:
        if is_out_of_memory(error):
            return _fail("the memory does not suffice; take less at once, or smaller examples", 1)
        if _is_lost_peer(error):
            return _fail("another process of this job has ended; its message says why. What was saved is whole", 1)
        return _fail_unexpectedly(error)


def _error_text(error: InputError | UsageError, words: list[str] | None) -> str:
    """Say what is wrong with the names of the command's flags; places, which have none, need no name."""
    name = next(iter(sys.argv[1:] if words is None else words), "")
    if error.argument is None or name not in COMMANDS:
        return str(error)
    from feller.app.options import flag_names, flags_of, option_of

    kind, *_ = find_command(name)
    flags = {field: flag_names(kind, field) for field in flags_of(kind)}
    names = {option_of(flag): flag for several in flags.values() for flag in several}
    names |= {"device": "--device"} | {field: next(iter(several), "") for field, several in flags.items()}
    return error.format(lambda one: names.get(one, f"--{one.replace('_', '-')}" if FIELD.fullmatch(one) else None))


def _fail(message: str, status: int, prefix: str = "") -> int:
    """Say what went wrong; of several processes the first speaks, and others only where it has nothing to say."""
    if not is_main_process():
        time.sleep(GRACE)  # meanwhile a launcher ends this process if the first one has failed, too
    name = "feller" if is_main_process() else f"feller (process {os.environ['RANK']})"
    print(f"{prefix}{name}: {message}", file=sys.stderr, flush=True)
    return status


def _is_lost_peer(error: Exception) -> bool:
    """Tell whether an error is that of a process which waits for one that has ended."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and (type(error).__name__.startswith("Dist") or any(word in str(error) for word in LOST_PEER_WORDS))


def _is_broken_pipe() -> bool:
    """Tell whether who reads what we print has enough, as `head` has of the help; then no more is said."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in reader.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
    return True


def _traceback_text() -> str:
    """Return all calls that led to an error, where people want them."""
    return traceback.format_exc() if os.environ.get(TRACEBACK) else ""


def _fail_unexpectedly(error: Exception) -> int:
    """Say whose fault an error is that nobody has foreseen: of the user's own code its line, of ours all there is."""
    if own := user_frame(error):
        return _fail(str(InputError(own)), 1, _traceback_text())
    return _fail("this is a fault of feller, not yours; please report the lines above", 1, traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
