"""Scripts become log mels: what is kept stays bit by bit, and the rest depends on what it should and nothing else."""

from dataclasses import replace

import pytest
import torch

from feller.app.modalities.speech import require_speech
from feller.app.reporter import SILENT
from feller.app.workflows.speech.recordings import recorded, truncate_clip
from feller.app.workflows.speech.synthesize import (
    BATCH_SIZE,
    SpeechSynthesisConfig,
    continue_from,
    phonemize,
    synthesize,
    with_durations,
)
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.speech.phones import SIL
from feller.data.speech.script import (
    Script,
    ScriptPhone,
    denoising_script,
    editing_script,
    resynthesis_script,
    style_transfer_script,
    text_script,
    voice_prompt_script,
)
from feller.models.model import Model, load_model
from feller.sampling.sampler_config import SamplerConfig
from tests.app.workflows.speech.pace import Listening
from tests.data.speech.clip import CLIPS, TEXTS
from tests.errors import refuses

DRAWS = Rng(5)
MANNER = SpeechSynthesisConfig(sampling=SamplerConfig("midpoint", 4))
HELLO, WORLD = ("HH", "AH", "L", "OW"), ("W", "ER", "L", "D")


@pytest.fixture(scope="module")
def model(speaking):
    """A model whose answers depend on all that it is told: new ones are all but zero."""
    found = load_model(Run(speaking))
    modules = (found.network, *require_speech(found).aux_networks.values())
    for m, module in enumerate(modules):
        for i, weight in enumerate(module.parameters()):
            scale = 0.3 if weight.ndim > 1 else 0.1
            weight.data = (
                weight.data + scale * Rng(m).stream("weight", i).normal(weight.shape) / weight.shape[-1] ** 0.5
            )
    return found


@pytest.fixture(scope="module")
def clips(model):
    named = (("LJ001-0008.flac", 0), ("LJ001-0002.flac", 1))
    return tuple(  # type: ignore[return-value]
        recorded(require_speech(model), (str(CLIPS / name), TEXTS[name]), "--voice", str, SILENT, spells_unknown=False)
        for name, _ in named
    )


def spoken(model, *scripts, manner=MANNER, draws=DRAWS):
    return synthesize(model, with_durations(model, scripts, manner, draws), manner, draws)


def tasks(clip, other):
    return {
        "voice": voice_prompt_script(clip, [HELLO, WORLD]),
        "denoise": denoising_script(clip, 50, 90),
        "edit": editing_script(clip, "has always been surpassed", [("HH", "AE", "Z"), HELLO, ("B", "IH", "N"), WORLD]),
        "style": style_transfer_script(clip, other),
    }


@pytest.mark.parametrize("task", ["voice", "denoise", "edit", "style"])
def test_what_is_kept_is_the_recording_bit_by_bit(model, clips, task):
    (said,) = spoken(model, tasks(*clips)[task])
    assert len(said.mel) == len(said.kept_mask) == sum(said.script.lengths)
    assert said.mel.dtype == torch.float32
    assert 0 < int(said.kept_mask.sum()) < len(said.kept_mask)
    for part, start, length in zip(said.script.parts, said.script.starts, said.script.lengths, strict=True):
        assert (said.kept_mask[start : start + length] == part.is_recorded).all()
        if part.origin is not None:
            assert torch.equal(said.mel[start : start + length], clips[0].mel[part.origin : part.origin + length])
    assert said.mel.isfinite().all()
    assert said.first_frame == sum(said.script.lengths[: said.script.prompt_length])


def test_a_recording_of_which_all_is_kept_comes_back(model, clips):
    script = editing_script(clips[0], TEXTS["LJ001-0008.flac"], [()] * 4)
    assert all(part.is_recorded for part in script.parts)
    (said,) = spoken(model, script)
    assert torch.equal(said.mel, clips[0].mel)


def test_a_recording_of_which_nothing_is_kept_is_not_listened_to(model, clips):
    clip = clips[0]
    n = len(clip.mel)
    louder = replace(clip, mel=clip.mel + 1)
    some, same, again, kept = spoken(
        model,
        *(denoising_script(each, 0, n) for each in (clip, louder)),
        resynthesis_script(clip),
        denoising_script(louder, 0, n // 2),
    )
    assert not some.kept_mask.any()
    mels = [synthesize(model, [each.script], MANNER, DRAWS)[0].mel for each in (some, same, again)]
    assert torch.equal(mels[0], mels[1])
    assert torch.equal(mels[0], mels[2])
    beside = synthesize(model, [denoising_script(clip, 0, n // 2)], MANNER, DRAWS)[0]
    other = synthesize(model, [kept.script], MANNER, DRAWS)[0]
    assert not torch.allclose(beside.mel[~beside.kept_mask], other.mel[~other.kept_mask], atol=1e-3)


def test_which_scripts_are_together_does_not_matter(model, clips):
    """Each has the noise of its number, and padding is not seen: 16 go through the network at once."""
    short = text_script([HELLO]).with_durations((3, 4, 5, 6, 7, 2))
    long = denoising_script(clips[0], 50, 90)
    scripts = [short, long] * (BATCH_SIZE // 2) + [short, long]
    found = synthesize(model, scripts, MANNER, DRAWS)
    for i in (0, 1, BATCH_SIZE, BATCH_SIZE + 1):
        (alone,) = synthesize(model, [scripts[i]], MANNER, replace(DRAWS, first_example=i))
        torch.testing.assert_close(found[i].mel, alone.mel, atol=2e-4, rtol=0)


def test_durations_are_asked_for_a_few_scripts_at_once(model, monkeypatch):
    """Each script has the noise of its number, whichever are with it."""
    manner, scripts = replace(MANNER, samples_durations=True), [text_script([HELLO, WORLD])] * (BATCH_SIZE + 2)
    found = with_durations(model, scripts, manner, DRAWS)
    assert len({script.lengths for script in found}) > 1
    for i in (1, BATCH_SIZE + 1):
        assert (
            with_durations(model, scripts[:1], manner, replace(DRAWS, first_example=i))[0].lengths == found[i].lengths
        )
    monkeypatch.setattr("feller.app.workflows.speech.synthesize.BATCH_SIZE", 3)
    assert [script.lengths for script in with_durations(model, scripts, manner, DRAWS)] == [
        script.lengths for script in found
    ]


def test_a_phone_that_was_heard_for_no_time_is_kept_so(model, clips):
    """An alignment may round it to nothing, at the end of the recording, too."""
    n = len(clips[0].mel)
    script = Script((ScriptPhone("AH_S"), ScriptPhone("T_B", n, 0), ScriptPhone("S_E", 0, n)), clips[0])
    (found,) = spoken(model, script)
    assert found.script.lengths[1:] == (n, 0)
    assert torch.equal(found.mel[-n:], clips[0].mel)


def test_several_differ_and_a_seed_gives_the_same(model):
    manner = replace(MANNER, samples_durations=True)
    scripts = [text_script([HELLO, WORLD])] * 4
    found, again = (spoken(model, *scripts, manner=manner) for _ in range(2))
    other = spoken(model, *scripts, manner=manner, draws=Rng(6))
    for a, b in zip(found, again, strict=True):
        assert a.script.lengths == b.script.lengths
        assert torch.equal(a.mel, b.mel)
    assert len({each.script.lengths for each in found}) > 1
    assert [each.script.lengths for each in found] != [each.script.lengths for each in other]
    same = [text_script([HELLO]).with_durations((3, 4, 5, 6, 7, 2))] * 2
    first, second = synthesize(model, same, MANNER, DRAWS)
    assert not torch.allclose(first.mel, second.mel, atol=0.1)


def test_the_likeliest_durations_are_always_the_same(model):
    first, second = with_durations(model, [text_script([HELLO, WORLD])] * 2, MANNER, DRAWS)
    (other,) = with_durations(model, [text_script([HELLO, WORLD])], MANNER, Rng(9))
    assert first.lengths == second.lengths == other.lengths


@pytest.mark.parametrize("varied", [False, True])
def test_phones_last_and_silences_may_not(model, clips, varied):
    """Those that are kept stay as they are, a kept silence of no time, too."""
    script = editing_script(clips[0], "has zero been surpassed", [(), HELLO, (), ()])
    found = with_durations(model, [script, text_script([HELLO] * 20)], replace(MANNER, samples_durations=varied), DRAWS)
    for before, after in zip(script.parts, found[0].parts, strict=True):
        assert before.length in (None, after.length)
        assert before.origin == after.origin
    parts = [part for each in found for part in each.parts]
    assert all(
        part.length is not None and part.length >= int(part.phone != SIL) for part in parts if not part.is_recorded
    )


def test_silences_at_the_ends_are_short(model):
    (found,) = with_durations(model, [text_script([HELLO, WORLD])], MANNER, DRAWS)
    assert found.lengths[0] <= 10
    assert found.lengths[-1] <= 10


def test_speed_divides_durations_once(model, clips):
    script = voice_prompt_script(clips[0], [HELLO, WORLD])
    usual, fast, slow = (with_durations(model, [script], replace(MANNER, speed=v), DRAWS)[0] for v in (1.0, 2.0, 0.25))
    shown = script.prompt_length
    assert usual.lengths[:shown] == fast.lengths[:shown] == slow.lengths[:shown]
    for part, a, b, c in zip(usual.parts, usual.lengths, fast.lengths, slow.lengths, strict=True):
        if part.phone != SIL and not part.is_recorded:
            assert (b, c) == (max(round(a / 2), 1), 4 * a)
    told = text_script([HELLO]).with_durations((0, 4, 5, 6, 7, 0))
    assert with_durations(model, [told], replace(MANNER, speed=2.0), DRAWS)[0].lengths == told.lengths


def test_guidance_counts_from_one(model, clips):
    """At 0 nothing is told, so neither phones nor the recording matter."""
    a, b = (text_script([word]).with_durations((3, 4, 5, 6, 7, 2)) for word in (HELLO, WORLD))

    def made(script, guidance):
        return synthesize(model, [script], replace(MANNER, guidance=guidance), DRAWS)[0].mel

    assert not torch.allclose(made(a, 1.0), made(a, 1.7), atol=1e-3)
    assert not torch.allclose(made(a, 1.0), made(b, 1.0), atol=1e-3)
    torch.testing.assert_close(made(a, 0.0), made(b, 0.0), atol=1e-5, rtol=0)


def test_what_cannot_be_said_is_told(model):
    with refuses(UsageError, found="phones without a duration"):
        synthesize(model, [text_script([HELLO])], MANNER, DRAWS)
    with refuses(UsageError, found="0"):
        synthesize(model, [text_script([HELLO]).with_durations((0,) * 6)], MANNER, DRAWS)
    with refuses(InputError, found="1 other phones, such as Q_S"):
        with_durations(model, [text_script([("Q",)])], MANNER, DRAWS)
    kind = replace(require_speech(model), duration_regressor=None)
    bare = Model.from_spec(replace(model.spec, modality=kind), model.network)
    with refuses(UsageError, remedy="Give --durations"):
        with_durations(bare, [text_script([HELLO])], MANNER, DRAWS)


def test_recordings_are_shortened_at_a_word(clips):
    clip, tell = clips[0], Listening()
    assert truncate_clip(clip, len(clip.mel), tell) is clip
    assert not tell.lines
    second = clip.spoken_words[1]
    short = truncate_clip(clip, second.end + 3, tell)
    assert [word.text for word in short.spoken_words] == [word.text for word in clip.spoken_words[:2]]
    assert torch.equal(short.mel, clip.mel[: second.end])
    assert len(short.sound.samples) == 160 * second.end
    assert tell.lines == [f"using the first {second.end / 100:.1f} s of LJ001-0008.flac, the maximum prompt length"]
    with refuses(InputError, place="LJ001-0008.flac", found="a first word that ends later"):
        truncate_clip(clip, 5, tell)
    script = voice_prompt_script(short, [HELLO])
    assert sum(part.length or 0 for part in script.parts[: script.prompt_length]) == second.end


def test_recordings_have_one_frame_for_each_ten_milliseconds(clips):
    for clip in clips:
        assert len(clip.sound.samples) == 160 * len(clip.mel)
        assert clip.words[0].start == 0
        assert clip.words[-1].end == len(clip.mel)


def test_models_of_words_of_a_user_know_them(model):
    kind = replace(
        require_speech(model), user_pronunciations={"zork": (("Z", "AO", "R", "K"),), "hello": (("HH", "OW"),)}
    )
    assert phonemize(kind, "Zork hello world") == (("Z", "AO", "R", "K"), ("HH", "OW"), ("W", "ER", "L", "D"))


def test_what_follows_listens_to_the_end_of_what_was_said(model):
    before = spoken(model, text_script([HELLO, WORLD]))[0]
    room = sum(before.script.lengths[-5:]) + 1
    (script,) = with_durations(model, [text_script([HELLO])], MANNER, DRAWS)
    follows = continue_from(before, script, room)
    heard = follows.parts[: follows.prompt_length]
    assert len(heard) >= 5
    assert sum(part.length or 0 for part in heard) <= room
    assert [part.phone for part in heard] == [part.phone for part in before.script.parts[-len(heard) :]]
    after = synthesize(model, [follows], MANNER, DRAWS)[0]
    assert torch.equal(after.mel[: after.first_frame], before.mel[len(before.mel) - after.first_frame :])
    assert follows.parts[follows.prompt_length :] == script.parts
    assert not torch.equal(after.mel[after.first_frame :], synthesize(model, [script], MANNER, DRAWS)[0].mel)
    assert continue_from(before, script, 0).lengths[-len(script.parts) :] == script.lengths
