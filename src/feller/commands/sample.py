"""feller sample."""

from dataclasses import dataclass, fields
from typing import Any

from feller.commands.arguments import flag_names
from feller.commands.sample_flags import SampleFlags
from feller.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sample(SampleFlags):
    """Draw samples from RUN, the newest by default."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.folder import find
        from feller.commands.sample_bridge import push
        from feller.commands.sample_documents import write
        from feller.commands.sample_speech import speak
        from feller.commands.sample_states import draw
        from feller.commands.terminal import speaker
        from feller.data.documents.modality import Documents
        from feller.data.speech.modality import Speech
        from feller.description import load_description
        from feller.journeys.bridges.bridged import bridged_of

        tell = speaker()
        run = find(self.folder, self.code, tell)
        bridged = bridged_of(run) is not None
        modality = None if bridged else load_description(run).modality
        _check_alone(modality, bridged or self.begin is not None)
        if isinstance(modality, Speech):
            self._refuse(others((*SAID, *OF_SPEECH)), "says nothing to a model of speech; leave it out")
            return speak(self, run, tell)
        if self.begin is not None or self.backward or bridged:
            if self.n is not None:
                raise UsageError(
                    "-n: a bridge takes every member of its first population once, or of what --from FILE holds, which"
                    " decides how many; leave it out"
                )
            self._refuse(others(PUSHED), "is of samples that begin with noise; a bridge has none")
            return push(self, run, tell)
        if isinstance(modality, Documents):
            self._refuse(others((*DRAWN, *OF_DOCUMENTS)), "says nothing to a model of documents; leave it out")
            return write(self, run, tell)
        self._refuse(OF_DOCUMENTS, "is of documents, and this model's data are others; leave it out")
        self._refuse(OF_SPEECH, "is of speech, and this model's data are others; leave it out")
        return draw(self, run, tell)

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        """Refuse flags that were given.

        Raises:
            UsageError: If any was.
        """
        usual = {field.name: field.default for field in fields(Sample)}
        wrong = [name for name in names if getattr(self, name) != usual[name]]
        if wrong:
            raise UsageError(f"{flag_names(Sample, wrong[0])[0]} {why}")


def _check_alone(modality: Any, bridged: bool) -> None:
    """Refuse several processes where they could not share the work, and would all write one file.

    Raises:
        UsageError: If there are several.
    """
    from feller.data.documents.modality import Documents
    from feller.data.speech.modality import Speech
    from feller.train.engine import engine

    kinds = ("speech", isinstance(modality, Speech)), ("documents", isinstance(modality, Documents))
    what = next((name for name, is_it in (*kinds, ("the ends of a bridge", bridged)) if is_it), None)
    if what is not None and engine().ranks > 1:
        raise UsageError(f"{what} are drawn by one process; start this without torchrun")


def others(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return all other flags."""
    return tuple(field.name for field in fields(Sample) if field.name not in names)


OF_DOCUMENTS = (
    "prompt",
    "mask",
    "edit",
    "ask",
    "memory",
    "documents",
    "picture_guidance",
    "plausible",
    "contrast",
    "best_of",
)
"""Flags that documents alone take."""
DRAWN = ("folder", "n", "out", "guidance", "temperature", "top_k", "top_p", "seed", "code", "json")
"""Flags that documents take like others."""
OF_SPEECH = (
    *("text", "voice", "denoise", "span", "edit", "style", "content"),
    *("speed", "durations", "spell", "language", "vocoder"),
)
"""Flags that speech takes; `edit` is of documents, too."""
SAID = ("folder", "n", "out", "calls", "solver", "guidance", "seed", "code", "json")
"""Flags that speech takes like others."""
PUSHED = ("folder", "out", "begin", "backward", "seed", "code", "json")
"""Flags that a bridge takes."""
