"""Entry point of the command line: runs the command, and prints errors in one line."""

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
    "steer": ("SteerConfig", "Steer sampling toward a reward or a measurement, without training."),
    "tune": ("TuneConfig", "Fine-tune a model on a reward."),
    "bridge": ("BridgeConfig", "Fit a Schrödinger bridge between populations."),
    "evaluate": ("EvaluateConfig", "Evaluate samples against real data and write the report."),
    "audit": ("AuditConfig", "Audit what a run reveals about individual rows or persons."),
    "data": ("Data", "List the built-in examples, or inspect data."),
    "export": ("ExportConfig", "Export a run's network for other programs (ONNX, torch.export, Hugging Face folder)."),
    "import": ("ImportConfig", "Create a run from your own network."),
    "cite": ("Cite", "Print BibTeX entries of the papers that a run uses."),
    "doctor": ("Doctor", "Check the installation and hardware."),
    "completion": ("Completion", "Print a shell completion script."),
    "serve": ("Serve", "Show runs as a page in the browser."),
    "reproduce": ("Reproduce", "Test a paper's claims at laptop scale."),
}

MODULES = {"import": "import_"}
"""Name of a command that is a Python keyword -> name of its module."""

SIGPIPE_STATUS = 141
"""Exit status after a closed pipe, by shell convention (128 + SIGPIPE)."""
FIELD = re.compile(r"[a-z]\w*(\.[a-z]\w*)+")
"""Regular expression that matches the dotted path of a recipe field, such as train.lr, but not the location of user
code, such as file.py:12."""
GRACE = 10.0
"""Delay in seconds before a process of nonzero rank reports an error; meanwhile the launcher ends the process if rank 0
has failed too."""
LOST_PEER_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Substrings by which PyTorch errors about unreachable peer processes are recognised."""
TRACEBACK = "FELLER_TRACEBACK"
"""Environment variable that enables full tracebacks for errors in user code."""


def overview() -> str:
    """Return the text of `feller --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: feller COMMAND ...",
            "",
            "Fit Markov processes to data; sample, steer, evaluate and audit them.",
            "",
            "commands:",
            *lines,
            "",
            "first steps:",
            "  feller fit example:digits      a model of handwritten digits, with a report",
            "  feller sample -n 100           samples of the newest run",
            "  feller COMMAND --help          all flags of a command",
            "  feller COMMAND --device cpu    cpu, cuda or cuda:NUMBER; by default the fastest available",
        ]
    )


def find_command(
    name: str,
) -> tuple[type, str, Callable[[Any, list[str]], dict[str, Any]], Callable[[list[str]], frozenset[str] | None] | None]:
    """Return what is needed to run the command `name`: config class, nested help flag, run function and help selector.

    The nested help flag is the flag with which --help also lists the fields of the recipe or bridge solver; empty if
    the command has no such fields. The run function maps (config, words that set such fields) to the content of the
    JSON output. The help selector is a function from the words of the command line to the names of the options that
    --help shows, or None for all options; the selector itself is None if --help always shows all options.
    """
    module = importlib.import_module(f"feller.app.commands.{MODULES.get(name, name)}")
    class_name = COMMANDS[name][0]
    if class_name.endswith("Config"):
        config = importlib.import_module("feller.app.config")
        attributes = getattr(module, "NESTED_HELP_FLAG", ""), module.run, getattr(module, "help_options", None)
        return getattr(config, class_name), *attributes
    return getattr(module, class_name), "", lambda command, words: command.run(words), None


def run(words: list[str]) -> int:
    """Run one command and return the exit status; `words` are the command-line words after `feller`."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    name, *args = words
    if name not in COMMANDS:
        raise UsageError.unknown_name("command", name, COMMANDS)
    from feller.app.commands.arguments import parse, show_help, take_device
    from feller.app.options import values_of

    args = take_device(args)
    config_class, nested_flag, execute, help_options = find_command(name)
    shows_fields = nested_flag and nested_flag in args and any(arg in ("-h", "--help") for arg in args)
    if shows_fields:  # the command prints this help, with the fields of the recipe
        args = [arg for arg in args if arg not in ("-h", "--help")]
    if help_options and not {"-h", "--help"}.isdisjoint(args) and (names := help_options(args)) is not None:
        show_help(config_class, name, names)
    command, field_args = parse(config_class, name, args, allow_nested=bool(nested_flag))
    result = execute(command, [*field_args, "--help"] if shows_fields else field_args)
    if values_of(command)["json"] and is_main_process():
        print(json.dumps(result))
    return command.status(result) if hasattr(command, "status") else 0


def main(words: list[str] | None = None) -> int:
    """Run `feller` and return the exit status.

    0: success; 1: bad data, run or disk; 2: wrong usage; 130: interrupted; 141: closed pipe.
    """
    # Idle OpenMP threads must not spin: on a busy machine, spinning slows other processes down several times.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if not is_main_process():  # only the main process prints warnings
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
        return _fail(str(error) or "interrupted", 130) if is_main_process() else 130  # all processes get the signal
    except SystemExit as exit_error:
        if frame := user_frame(exit_error):
            return _fail(str(InputError(frame)), 1, _traceback_text())
        raise  # raised by the parser, as after --help
    except BrokenPipeError as error:
        return SIGPIPE_STATUS if _is_broken_pipe() else _fail_unexpectedly(error)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            location = f" at {error.filename}" if error.filename else ""
            return _fail(f"the disk is full{location}: free some space; files written before are complete", 1)
        is_path_error = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)
        if is_path_error or error.errno in BAD_PATH_ERRNOS:
            remedy = ". Choose another path" if error.errno == errno.EROFS else ""
            return _fail(f"{error.filename or 'the disk'}: {error.strerror}{remedy}", 1)
        return _fail_unexpectedly(error)
    except Exception as error:
        if is_out_of_memory(error):
            return _fail("out of memory; reduce --train.batch-size or the example size", 1)
        if _is_lost_peer(error):
            return _fail("another process of this job has failed; see its message. Saved files are complete", 1)
        return _fail_unexpectedly(error)


def _error_text(error: InputError | UsageError, words: list[str] | None) -> str:
    """Format an error, naming arguments by their flags; positional arguments have no flag."""
    name = next(iter(sys.argv[1:] if words is None else words), "")
    if error.argument is None or name not in COMMANDS:
        return str(error)
    from feller.app.options import flag_names, flags_of, option_of

    config_class, *_ = find_command(name)
    flags = {field: flag_names(config_class, field) for field in flags_of(config_class)}
    names = {option_of(flag): flag for aliases in flags.values() for flag in aliases}
    names |= {"device": "--device"} | {field: next(iter(aliases), "") for field, aliases in flags.items()}
    return error.format(
        lambda argument: names.get(argument, f"--{argument.replace('_', '-')}" if FIELD.fullmatch(argument) else None)
    )


def _fail(message: str, status: int, prefix: str = "") -> int:
    """Print an error and return the exit status; other ranks wait first, so that only the main process prints."""
    if not is_main_process():
        time.sleep(GRACE)  # the launcher ends this process if the main one has failed, too
    name = "feller" if is_main_process() else f"feller (process {os.environ['RANK']})"
    print(f"{prefix}{name}: {message}", file=sys.stderr, flush=True)
    return status


def _is_lost_peer(error: Exception) -> bool:
    """Return True if an error was caused by waiting for another process that has ended."""
    has_peers = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return has_peers and (
        type(error).__name__.startswith("Dist") or any(text in str(error) for text in LOST_PEER_WORDS)
    )


def _is_broken_pipe() -> bool:
    """Return True if standard output is a closed pipe, as after `| head`; it is then redirected to the null device."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poller.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
    return True


def _traceback_text() -> str:
    return traceback.format_exc() if os.environ.get(TRACEBACK) else ""


def _fail_unexpectedly(error: Exception) -> int:
    """Report an unexpected error, with the line in user code or the traceback of a bug, and return the status."""
    if frame := user_frame(error):
        return _fail(str(InputError(frame)), 1, _traceback_text())
    return _fail("internal error, a bug in feller; please report the lines above", 1, traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
