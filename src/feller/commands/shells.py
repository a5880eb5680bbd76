"""Scripts with which shells complete commands and flags; they hold the words, so that pressing a key starts nothing."""

import importlib
import pkgutil
import shlex
from collections.abc import Callable
from dataclasses import fields

import feller.commands
from feller.commands.arguments import flag_names

Known = dict[str, tuple[str, list[str]]]
"""Command -> what it does, and its flags."""


def commands() -> Known:
    """Return each command with its flags, from its own fields: a file is one if it has a class of its name."""
    found = {}
    for place in pkgutil.iter_modules(feller.commands.__path__):
        name = place.name.rstrip("_")
        kind = getattr(importlib.import_module(f"feller.commands.{place.name}"), name.capitalize(), None)
        if kind is not None and hasattr(kind, "deep"):
            flags = [flag for field in fields(kind) for flag in flag_names(kind, field.name)]
            summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
            found[name] = summary, [*flags, "--help"]
    return found


def script(shell: str) -> str:
    """Return the script of a shell."""
    return SHELLS[shell](commands())


def _bash(found: Known) -> str:
    cases = "\n".join(f"    {name}) words={shlex.quote(' '.join(known))} ;;" for name, (_, known) in found.items())
    return f"""\
# feller in bash: eval "$(feller completion bash)"
_feller() {{
  local here="${{COMP_WORDS[COMP_CWORD]}}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {shlex.quote(" ".join([*found, "--help", "--version"]))} -- "$here"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ "$here" == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$here"))
  fi
}}
complete -o bashdefault -o default -F _feller feller
"""


def _zsh(found: Known) -> str:
    commands = "\n".join(f"    {shlex.quote(f'{name}:{summary}')}" for name, (summary, _) in found.items())
    cases = "\n".join(f"    {name}) flags=({' '.join(known)}) ;;" for name, (_, known) in found.items())
    return f"""\
# feller in zsh: eval "$(feller completion zsh)"
_feller() {{
  local -a commands flags
  commands=(
{commands}
  )
  if (( CURRENT == 2 )); then
    _describe 'command' commands
    return
  fi
  case "$words[2]" in
{cases}
  esac
  if [[ "$words[CURRENT]" == -* ]]; then
    compadd -- $flags
  else
    _files
  fi
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _feller feller
"""


def _fish(found: Known) -> str:
    lines = ["# feller in fish: feller completion fish | source"]
    for name, (summary, known) in found.items():
        summary = summary.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"complete -c feller -n __fish_use_subcommand -f -a {name} -d '{summary}'")
        for flag in known:
            how = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            lines.append(f"complete -c feller -n '__fish_seen_subcommand_from {name}' {how}")
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[Known], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
