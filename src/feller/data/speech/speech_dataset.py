"""From recordings with their texts to a data set."""

from dataclasses import replace

from feller.core.errors import InputError
from feller.data.fingerprints import print_of
from feller.data.loading.raw import FoundSpeech, as_objects
from feller.data.modality import Dataset, told
from feller.data.speech.clip_chains import LINKS, said_of_words, suit
from feller.data.speech.mel import log_mels
from feller.data.speech.phones import Inventory
from feller.data.speech.speech_mel import FRAMES, Mel, Statistics
from feller.data.speech.speech_modality import Speech


def speech(found: FoundSpeech) -> Dataset:
    """Make a data set of speech, with its own statistics and inventory, and room for the longest sound.

    Where most clips hold one word, chains of them are learned, if it is known who speaks.

    Raises:
        InputError: If no texts were found.
    """
    if not found.alignments:
        raise InputError("nothing is known of what these sounds say; write a text beside each of them")
    mel = Mel(*found.settings) if found.settings else Mel.usual(found.values[0].rate)
    mels = log_mels(found, mel)
    frames, chains = max(map(len, mels)), suit(found)
    if chains:
        frames = max(frames, LINKS[1] * sum(map(len, mels)) // len(mels))
    longest = -(-frames // FRAMES) * FRAMES  # whole seconds
    inventory = Inventory.of({phone for layout in found.alignments for phone in layout.phones})
    modality = Speech(mel, Statistics.of(mels), inventory, longest, None, chains, found.classes, found.own)
    seconds = sum(map(len, mels)) / FRAMES
    said = f" of {len(found.classes):,} speakers" if found.classes else ""
    note = f"{len(mels):,} sounds{said}, {seconds / 60:.1f} minutes; log mels have mean"
    note = f"{note} {modality.statistics.mean:.4f} and deviation {modality.statistics.std:.4f}"
    notes = (*found.notes, note, *said_of_words(found))
    analysed = replace(found, values=as_objects([one.numpy() for one in mels]), settings=mel.settings)
    return Dataset(*modality.accept(analysed), modality, notes, properties=told(found), print=print_of(found))
