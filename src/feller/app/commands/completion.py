"""feller completion."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.app.commands.kinds import Positional, Text
from feller.app.commands.marks import Offers
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print what lets a shell complete commands, flags, their values, runs and files: bash, zsh or fish.

    Write it to a file once, since it takes seconds to make: in bash `feller completion bash > ~/.feller.bash`, and in
    ~/.bashrc `source ~/.feller.bash`; in zsh alike, in ~/.zshrc; in fish `feller completion fish >
    ~/.config/fish/completions/feller.fish`. Do so again after an update.
    """

    deep: ClassVar[str] = ""

    shell: Positional[Annotated[Text, Offers(tables=("feller.app.commands.shells:SHELLS",))]] = None
    """bash, zsh or fish."""
    json: bool = False
    """Print the script inside one JSON object."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.commands.shells import SHELLS, script

        if self.shell not in SHELLS:
            raise UsageError(f"expected one of {', '.join(SHELLS)}, got {self.shell or 'nothing'}")
        text = script(self.shell)
        if not self.json:
            print(text, end="")
        return {"shell": self.shell, "script": text}
