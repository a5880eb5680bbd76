"""`feller completion`: completion scripts for bash, zsh and fish, as tyro makes them."""

import contextlib
import io
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from feller.app.cli import COMMANDS, find_command
from feller.app.commands.arguments import TYRO_CONFIG
from feller.app.commands.flag_types import Choices, OptionalText, Positional
from feller.app.options import annotations_of, field_metadata, flag_names, flags_of
from feller.core.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print what lets a shell complete commands, flags, their values and files: bash, zsh or fish.

    Write it to a file once, since it takes seconds to make: in bash `feller completion bash > ~/.feller.bash`, and in
    ~/.bashrc `source ~/.feller.bash`; in zsh `feller completion zsh > DIR/_feller`, where DIR is one of $fpath; in fish
    `feller completion fish > ~/.config/fish/completions/feller.fish`. Do so again after an update.
    """

    shell: Positional[Annotated[OptionalText, Choices(SHELLS)]] = None
    """bash, zsh or fish."""
    json: bool = False
    """Print the script inside one JSON object."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        if self.shell not in SHELLS:
            raise UsageError.unknown_name("shell", self.shell or "", SHELLS)
        text = script(self.shell)
        if not self.json:
            print(text, end="")
        return {"shell": self.shell, "script": text}


def script(shell: str) -> str:
    """Return the script of a shell; bash completes files where it has nothing of ours to offer."""
    commands = Union[tuple(_command(name) for name in COMMANDS)]  # noqa: UP007  # pyrefly: ignore - of a list
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(commands, prog="feller", args=["--tyro-print-completion", shell], config=TYRO_CONFIG)
    return printed.getvalue().replace("complete -F ", "complete -o bashdefault -o default -F ")


def _command(name: str) -> Any:
    """Return the class of a command as a subcommand, in which flags that offer words take these alone."""
    kind = find_command(name)[0]
    flags = []
    for flag, one in flags_of(kind).items():
        markers = [
            mark
            for mark in field_metadata(one)
            if not isinstance(mark, Choices | tyro.constructors.PrimitiveConstructorSpec)
        ]
        words = [word for mark in annotations_of(kind, flag, Choices) for word in mark.load_values()]
        chosen = bool(words and markers and flag_names(kind, flag))  # elsewhere files are offered
        of_words: Any = Annotated[Literal[tuple(words)], *markers] if chosen else one.type  # pyrefly: ignore
        flags.append((flag, of_words, field(default=words[0] if chosen else one.default)))
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    shown: Any = make_dataclass(kind.__name__, flags, kw_only=True)
    return Annotated[shown, tyro.conf.subcommand(name, description=summary)]
