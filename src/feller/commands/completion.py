"""feller completion."""

from dataclasses import dataclass
from typing import Any, ClassVar

from feller.commands.arguments import Positional, Text
from feller.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print what lets a shell complete commands, flags and files: bash, zsh or fish.

    In bash: `eval "$(feller completion bash)"`, in ~/.bashrc; in zsh the same with zsh, in ~/.zshrc; in fish
    `feller completion fish | source`, in ~/.config/fish/config.fish.
    """

    deep: ClassVar[str] = ""

    shell: Positional[Text] = None
    """bash, zsh or fish."""
    json: bool = False
    """Print the script inside one JSON object."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.shells import SHELLS, script

        if self.shell not in SHELLS:
            raise UsageError(f"expected one of {', '.join(SHELLS)}, got {self.shell or 'nothing'}")
        text = script(self.shell)
        if not self.json:
            print(text, end="")
        return {"shell": self.shell, "script": text}
