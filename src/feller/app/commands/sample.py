"""feller sample."""

from dataclasses import dataclass
from typing import Any

from feller.app.commands.arguments import changed, flag_names, flags_of
from feller.app.commands.sample_flags import BridgeFlags, DocumentFlags, SampleFlags, SpeechFlags
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sample(SampleFlags):
    """Draw samples from RUN, the newest by default."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.commands.resolve_run import find
        from feller.app.commands.sample_modalities import draw, push, speak, write
        from feller.app.modalities.registration import registration_of
        from feller.app.terminal import speaker
        from feller.app.workflows.bridges.is_bridge import is_bridge
        from feller.data.path_checks import check_free
        from feller.models.spec import load_description

        if self.shards.shard is None:  # a folder of shards knows its own files
            check_free(self.out, overwrite=self.overwrite)
        tell = speaker()
        run = find(self.folder, self.code, tell)
        bridged = is_bridge(run)
        modality = None if bridged else load_description(run).modality
        draws_as = "the ends of a bridge" if modality is None else registration_of(modality).draws_as
        _check_alone("the ends of a bridge" if self.bridge.begin is not None else draws_as)
        if draws_as == "speech":
            self._take(SAID, "says nothing to a model of speech; leave it out")
            return speak(self, run, tell)
        if self.bridge != BridgeFlags() and not bridged:
            flag = "--backward" if self.bridge.begin is None else "--from"
            raise UsageError(f"{flag} is for bridges, and {run.path} is none; leave it out")
        if bridged:
            if self.n is not None:
                which = "last" if self.bridge.backward else "first"
                raise UsageError(
                    f"-n: a bridge takes every member of its {which} population once, or of what --from FILE holds,"
                    " which decides how many; leave it out"
                )
            self._take(PUSHED, "is of samples that begin with noise; a bridge has none")
            return push(self, run, tell)
        if draws_as == "documents":
            self._take(WRITTEN, "says nothing to a model of documents; leave it out")
            return write(self, run, tell)
        self._check_holes(modality)
        self._take(others(OF_DOCUMENTS), "is of documents, and this model's data are others; leave it out")
        self._take(others(OF_SPEECH), "is of speech, and this model's data are others; leave it out")
        return draw(self, run, tell)

    def _check_holes(self, modality: Any) -> None:
        """Say what fills holes of pictures, where what fills those of texts and documents was asked to.

        Raises:
            UsageError: Then.
        """
        from feller.data.images.modality import Images

        flag = "--known" if self.known is not None else "--mask" if self.documents.mask is not None else ""
        if flag and modality.view(Images) is not None:
            raise UsageError(
                f"{flag} does not fill in pictures; say `feller steer RUN --observe PICTURE --operator inpaint --mask"
                " MASK`"
            )

    def _take(self, names: tuple[str, ...], why: str) -> None:
        """Refuse flags beside those that are taken.

        Raises:
            UsageError: If any was given.
        """
        wrong = [name for name in changed(self) if name not in names]
        if wrong:
            raise UsageError(f"{flag_names(Sample, wrong[0])[0]} {why}")


def _check_alone(what: str) -> None:
    """Refuse several processes where they could not share the work, and would all write one file.

    Raises:
        UsageError: If there are several.
    """
    from feller.training.engine import engine

    if what != "samples" and engine().ranks > 1:
        raise UsageError(f"{what} are drawn by one process; start this without torchrun")


def others(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return all other flags."""
    return tuple(name for name in flags_of(Sample) if name not in names)


OF_DOCUMENTS = ("edit", *flags_of(DocumentFlags))
"""Flags that are of documents; `edit` is of speech, too."""
OF_SPEECH = ("edit", *flags_of(SpeechFlags))
"""Flags that are of speech."""
WRITTEN = (
    *("folder", "n", "out", "overwrite", "guidance", "temperature", "top_k", "top_p", "seed", "code", "json"),
    *OF_DOCUMENTS,
)
"""Flags that documents take."""
SAID = (*("folder", "n", "out", "overwrite", "calls", "solver", "guidance", "seed", "code", "json"), *OF_SPEECH)
"""Flags that speech takes."""
PUSHED = (*("folder", "out", "overwrite", "seed", "code", "json"), *flags_of(BridgeFlags))
"""Flags that a bridge takes."""
