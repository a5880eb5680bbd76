"""`feller completion`: completion scripts for bash, zsh and fish.

Run folders alone are looked for when the key is pressed: those under `runs`, and those that begin as what is typed.
"""

import importlib
import pkgutil
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import feller.app.commands
from feller.app.commands.arguments import flag_names, flags_of, marks
from feller.app.commands.flag_types import Offers, Positional, Text
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print what lets a shell complete commands, flags, their values, runs and files: bash, zsh or fish.

    Write it to a file once, since it takes seconds to make: in bash `feller completion bash > ~/.feller.bash`, and in
    ~/.bashrc `source ~/.feller.bash`; in zsh alike, in ~/.zshrc; in fish `feller completion fish >
    ~/.config/fish/completions/feller.fish`. Do so again after an update.
    """

    deep: ClassVar[str] = ""

    shell: Positional[Annotated[Text, Offers(tables=("feller.app.commands.completion:SHELLS",))]] = None
    """bash, zsh or fish."""
    json: bool = False
    """Print the script inside one JSON object."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        if self.shell not in SHELLS:
            raise UsageError(f"expected one of {', '.join(SHELLS)}, got {self.shell or 'nothing'}")
        text = script(self.shell)
        if not self.json:
            print(text, end="")
        return {"shell": self.shell, "script": text}


@dataclass(frozen=True)
class Flag:
    """One flag of a command, by all its names."""

    names: tuple[str, ...]
    takes: bool
    """A value stands behind it."""
    words: tuple[str, ...] = ()
    """Values that are offered; files are, where there are none."""
    runs: bool = False
    """Run folders are offered, too."""


@dataclass(frozen=True)
class Command:
    """What can stand behind a command."""

    summary: str
    flags: tuple[Flag, ...]
    places: Flag
    """What is no flag; without names."""

    def names(self) -> list[str]:
        """Return all flags as they are written."""
        return [name for flag in self.flags for name in flag.names]


Known = dict[str, Command]


def commands() -> Known:
    """Return each command with its flags, from its own fields: a file is one if it has a class of its name."""
    found = {}
    for place in pkgutil.iter_modules(feller.app.commands.__path__):
        name = place.name.rstrip("_")
        kind = getattr(importlib.import_module(f"feller.app.commands.{place.name}"), name.capitalize(), None)
        if kind is not None and hasattr(kind, "deep"):
            found[name] = _command(kind)
    return found


def _command(kind: type) -> Command:
    flags, words, runs = [], [], False
    for name, field in flags_of(kind).items():
        names = flag_names(kind, name)
        offered = [one for mark in marks(kind, name, Offers) for one in mark.all_words()]
        of_runs = any(mark.runs for mark in marks(kind, name, Offers))
        if names:
            flags.append(Flag(tuple(names), field.type is not bool, tuple(offered), of_runs))
        else:
            words, runs = [*words, *offered], runs or of_runs
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return Command(summary, (*flags, Flag(("--help",), takes=False)), Flag((), True, tuple(words), runs))


def script(shell: str) -> str:
    """Return the script of a shell."""
    return SHELLS[shell](commands())


def _cases(command: Command, line: str) -> list[str]:
    """Return what a shell does after each flag that takes a value, and elsewhere; those alike share a line."""
    alike: dict[str, list[str]] = {}
    for flag in command.flags:
        if flag.takes:
            alike.setdefault(_does(flag, line), []).extend(flag.names)
    lines = [f"        {'|'.join(names)}) {does} ;;" for does, names in alike.items()]
    return [*lines, f"        *) {_does(command.places, line)} ;;"]


def _does(flag: Flag, line: str) -> str:
    return line.format(words=" ".join(map(shlex.quote, flag.words)), runs=int(flag.runs))


def _bash(found: Known) -> str:
    cases = []
    for name, command in found.items():
        flags = shlex.quote(" ".join(command.names()))
        cases += [f"    {name})", f"      flags={flags}", '      case "$before" in']
        cases += [*_cases(command, "words='{words}' runs={runs}"), "      esac ;;"]
    text = "\n".join(cases)
    return f"""\
# feller in bash: feller completion bash > ~/.feller.bash, and in ~/.bashrc: source ~/.feller.bash
_feller() {{
  local here="${{COMP_WORDS[COMP_CWORD]}}" at=$COMP_CWORD flags="" words="" runs=0 cut="" before place
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {shlex.quote(" ".join([*found, "--help", "--version"]))} -- "$here"))
    return
  fi
  # bash takes : and = for words of their own: put together what belongs together, and cut off what stands there
  if [[ "$here" == : ]]; then
    at=$((at - 1)) cut="${{COMP_WORDS[at]}}:"
    here="$cut"
  elif [[ "${{COMP_WORDS[at - 1]}}" == : ]]; then
    at=$((at - 2)) cut="${{COMP_WORDS[at]}}:"
    here="$cut$here"
  elif [[ "$here" == = ]]; then
    at=$((at + 1)) here=""
  fi
  [[ "${{COMP_WORDS[at - 1]}}" == = ]] && at=$((at - 1))
  before="${{COMP_WORDS[at - 1]}}"
  case "${{COMP_WORDS[1]}}" in
{text}
  esac
  if [[ "$here" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$here"))
    return
  fi
  COMPREPLY=($(compgen -W "$words" -- "$here"))
  COMPREPLY=("${{COMPREPLY[@]#"$cut"}}")
  if ((runs)); then
    for place in runs/*/model.json "$here"*/model.json; do
      place="${{place%/model.json}}"
      [[ -f "$place/model.json" && "$place" == "$here"* && " ${{COMPREPLY[*]}} " != *" $place "* ]] || continue
      COMPREPLY+=("$place")
      compopt -o filenames 2> /dev/null
    done
  fi
  if [[ -z "$here" && "$words" == *:* ]]; then
    COMPREPLY+=($(compgen -f))
  fi
}}
complete -o bashdefault -o default -F _feller feller
"""


def _zsh(found: Known) -> str:
    summaries = "\n".join(f"    {shlex.quote(f'{name}:{command.summary}')}" for name, command in found.items())
    cases = []
    for name, command in found.items():
        cases += [f"    {name})", f"      flags=({' '.join(command.names())})", '      case "$words[CURRENT-1]" in']
        cases += [*_cases(command, "values=({words}) runs={runs}"), "      esac ;;"]
    text = "\n".join(cases)
    return f"""\
# feller in zsh: feller completion zsh > ~/.feller.zsh, and in ~/.zshrc: source ~/.feller.zsh
_feller() {{
  local -a commands flags values found
  local -i runs=0
  commands=(
{summaries}
  )
  if (( CURRENT == 2 )); then
    _describe 'command' commands
    return
  fi
  case "$words[2]" in
{text}
  esac
  if [[ "$words[CURRENT]" == -* ]]; then
    compadd -- $flags
    return
  fi
  (( $#values )) && compadd -- $values
  if (( runs )); then
    found=(runs/*/model.json(N:h) ${{words[CURRENT]}}*/model.json(N:h))
    (( $#found )) && compadd -f -- ${{(u)found}}
  fi
  _files
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _feller feller
"""


def _fish(found: Known) -> str:
    lines = [
        "# feller in fish: feller completion fish > ~/.config/fish/completions/feller.fish",
        "function __feller_runs",
        "  for place in runs/*/model.json (commandline -ct)*/model.json",
        "    string replace -r '/model.json$' '' -- $place",
        "  end",
        "end",
    ]
    for name, command in found.items():
        summary = command.summary.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"complete -c feller -n __fish_use_subcommand -f -a {name} -d '{summary}'")
        here = f"complete -c feller -n '__fish_seen_subcommand_from {name}'"
        if offered := _offered_in_fish(command.places):
            lines.append(f"{here} -a '{offered}'")
        for flag in command.flags:
            how = " ".join(f"-l {one[2:]}" if one.startswith("--") else f"-s {one[1:]}" for one in flag.names)
            offered = _offered_in_fish(flag)
            # Files are offered behind what may be one: -x leaves them out where all that it can be is known.
            takes = "" if not flag.takes else " -x" if flag.words else " -r"
            lines.append(f"{here} {how}{takes}" + (f" -a '{offered}'" if offered else ""))
    return "\n".join(lines) + "\n"


def _offered_in_fish(flag: Flag) -> str:
    return " ".join([*flag.words, *(["(__feller_runs)"] if flag.runs else [])])


SHELLS: dict[str, Callable[[Known], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
