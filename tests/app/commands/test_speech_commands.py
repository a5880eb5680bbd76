"""feller on runs of speech: all tasks as people ask for them, and whatever they may get wrong, told in one line."""

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from feller.app.cli import main
from feller.core.errors import UsageError
from feller.core.safetensors_io import save_tensors
from feller.data.speech.mel import MelConfig
from feller.networks.audio.hifigan import HiFiGAN, HiFiGANNetwork
from tests.app.workflows.speech.test_vocoders_named import CONFIG
from tests.data.speech.clip import CLIPS, clip

RATE, HOP = 16_000, 160
NEVER, PRIDE = "LJ001-0008.flac", "sense-0880.flac"
NEVER_SAYS, PRIDE_SAYS = "has never been surpassed", "He was not an ill-disposed young man."
QUICK = ("--nfe", "2", "--vocoder", "griffin-lim:1")
HELLO = [("SIL", 5), ("HH_B", 6), ("AH_I", 7), ("L_I", 8), ("OW_E", 9), ("SIL", 10)]


def write(path: pathlib.Path, samples: np.ndarray, rate: int = RATE) -> None:
    soundfile.write(path, samples, rate)


def table(name: str, rows: list[tuple[str, object]]) -> str:
    lines = ("phone,frames", *(f"{phone},{frames}" for phone, frames in rows), "")
    pathlib.Path(name).write_text("\n".join(lines))
    return name


@pytest.fixture(scope="module")
def place(speaking: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder with a run and files, right and wrong ones."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(speaking, folder / "run")
    for name in (NEVER, PRIDE):
        shutil.copy(CLIPS / name, folder / name)
    never = clip(NEVER).samples
    write(folder / "stereo.wav", np.stack([never, 0.5 * never], 1))
    write(folder / "high.wav", clip(NEVER, 44_100).samples, 44_100)
    write(folder / "loud.wav", np.clip(20 * never, -1, 1))
    write(folder / "silent.wav", np.zeros(RATE))
    write(folder / "short.wav", never[:400])
    write(folder / "brief.wav", never[8000:9000])
    write(folder / "bare.wav", never)
    write(folder / "long.wav", np.concatenate([never] * 2))
    write(folder / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE))
    (folder / "broken.wav").write_text("no sound")
    (folder / "folder.wav").mkdir()
    (folder / "many").mkdir()
    (folder / "many" / "notes.md").write_text("mine")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})  # reports are tested elsewhere


@pytest.fixture
def sample(capsys: pytest.CaptureFixture[str]):
    """Return what asks `feller sample run` for something that works."""

    def asked(*words: object, run: str = "run") -> tuple[dict, list[str]]:
        status = main(["sample", run, *map(str, words), *QUICK, "--overwrite", "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        return json.loads(out.splitlines()[-1]), err.splitlines()

    return asked


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Return what asks for something that does not work, and returns the one line that says why."""

    def asked(status: int, *words: object) -> str:
        found = main([*map(str, words)])
        out, err = capsys.readouterr()
        assert found == status, err
        assert not out
        lines = err.splitlines()
        assert lines[-1].startswith("feller: ")
        assert len([line for line in lines if line.startswith("feller: ")]) == 1
        assert "Traceback" not in err
        return lines[-1]

    return asked


def samples(path: str) -> np.ndarray:
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return found


EDIT = ("--edit", NEVER, NEVER_SAYS)
TASKS = {
    "text": ("--text", "Hello world"),
    "voice": ("--text", "Hello world", "--voice", PRIDE, PRIDE_SAYS),
    "edit": ("--text", "has always been surpassed", "--edit", NEVER, NEVER_SAYS),
    "denoise": ("--denoise", NEVER, NEVER_SAYS, "--span", "0.5:0.9"),
    "content": ("--content", NEVER, NEVER_SAYS),
    "style": ("--content", NEVER, NEVER_SAYS, "--style", PRIDE, PRIDE_SAYS),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_writes_a_sound_with_its_picture(sample, task: str) -> None:
    found, _ = sample(*TASKS[task], "--out", f"{task}.wav")
    heard = samples(f"{task}.wav")
    assert found["samples"] == f"{task}.wav"
    assert found["n"] == 1
    assert found["seconds"] == pytest.approx(len(heard) / RATE, abs=1e-3)
    assert found["network_seconds"] >= 0
    assert Image.open(f"{task}.png").width > 100
    if task in ("content", "style"):
        assert len(heard) == len(clip(NEVER).samples) // HOP * HOP


@pytest.mark.slow
def test_a_recording_is_kept_to_its_last_sample(sample) -> None:
    """Behind the last whole frame there is a part of one; where nothing is to change, that is said."""
    real = clip(NEVER).samples
    assert len(real) % HOP
    for words, changes in ((TASKS["denoise"], True), (TASKS["edit"], True), (("--text", NEVER_SAYS, *EDIT), False)):
        _, lines = sample(*words, "--out", "whole.wav")
        heard = samples("whole.wav")
        assert np.abs(heard[-1000:] - real[-1000:]).max() < 2 / 32_767
        assert any(line.startswith("the recording already has this text") for line in lines) is not changes
    assert np.abs(heard - real).max() < 2 / 32_767


def test_what_is_kept_is_heard_as_it_was(sample) -> None:
    sample(*TASKS["denoise"], "--out", "kept.wav")
    heard, real = samples("kept.wav"), clip(NEVER).samples
    for piece in (slice(0, 6000), slice(16000, 28000)):
        assert np.abs(heard[piece] - real[piece]).max() < 2 / 32_767
    assert np.abs(heard[8000:14000] - real[8000:14000]).max() > 0.01


@pytest.mark.parametrize("task", ["text", "voice", "edit"])
def test_a_folder_holds_several_with_their_durations(sample, task: str) -> None:
    found, _ = sample(*TASKS[task], "-n", 3, "--out", f"{task}-3")
    assert found["n"] == 3
    assert sorted(path.name for path in pathlib.Path(f"{task}-3").iterdir()) == [
        *(f"0000{i}{ending}" for i in range(3) for ending in (".csv", ".wav")),
        "grid.png",
    ]
    seconds = 0.0
    for i in range(3):
        rows = list(csv.reader(pathlib.Path(f"{task}-3/0000{i}.csv").read_text().splitlines()))
        assert rows[0] == ["phone", "frames"]
        heard = samples(f"{task}-3/0000{i}.wav")
        tail = len(clip(NEVER).samples) % HOP if task == "edit" else 0  # behind the last whole frame
        assert len(heard) == HOP * sum(int(row[1]) for row in rows[1:]) + tail
        seconds += len(heard) / RATE
    assert found["seconds"] == pytest.approx(seconds, abs=1e-3)
    first, second = (samples(f"{task}-3/0000{i}.wav") for i in range(2))
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_arrays_hold_log_mels_and_phones(sample) -> None:
    sample("--text", "Hello world", "-n", 2, "--out", "a.npz")
    arrays = np.load("a.npz")
    names = arrays["phones"][arrays["phone"][0]].tolist()
    assert names == ["SIL", "HH_B", "AH_I", "L_I", "OW_E", "SIL", "W_B", "ER_I", "L_I", "D_E", "SIL"]
    assert arrays["mel"].shape == (2, arrays["duration"].sum(1).max(), 80)
    assert arrays["valid"].sum(1).tolist() == arrays["duration"].sum(1).tolist()


def test_a_seed_gives_the_same_and_another_others(sample) -> None:
    for name, seed in (("s1", 1), ("s2", 1), ("s3", 2)):
        sample("--text", "Hello", "--seed", seed, "--out", f"{name}.npz", "--durations", table("hello.csv", HELLO))
    first, again, other = (np.load(f"s{i}.npz")["mel"] for i in (1, 2, 3))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_durations_go_around(sample) -> None:
    found, _ = sample("--text", "Hello", "--durations", table("hello.csv", HELLO), "--out", "around")
    assert found["seconds"] == 0.45
    assert pathlib.Path("around/00000.csv").read_text() == pathlib.Path("hello.csv").read_text()
    slower = [(phone, 2 * frames) for phone, frames in HELLO]
    found, _ = sample("--text", "Hello", "--durations", table("slower.csv", slower), "--out", "around.wav", "-n", 1)
    assert found["seconds"] == 0.9


def test_durations_of_an_edit_keep_what_is_kept(sample, refused) -> None:
    sample(*TASKS["edit"], "--out", "edited")
    shutil.copy("edited/00000.csv", "edited.csv")
    rows = [tuple(line.split(",")) for line in pathlib.Path("edited.csv").read_text().splitlines()[1:]]
    new = next(i for i, row in enumerate(rows) if row[0].startswith("AO"))
    longer = [(phone, 30 if i == new else frames) for i, (phone, frames) in enumerate(rows)]
    before = sum(int(frames) for _, frames in rows)
    found, _ = sample(*TASKS["edit"], "--durations", table("longer.csv", longer), "--out", "edited.wav")
    tail = len(clip(NEVER).samples) % HOP / RATE  # behind the last whole frame
    assert found["seconds"] == pytest.approx((before + 30 - int(rows[new][1])) / 100 + tail, abs=1e-3)
    changed = [(phone, 30 if phone == "HH_B" else frames) for phone, frames in rows]
    said = refused(1, "sample", "run", *TASKS["edit"], "--durations", table("changed.csv", changed))
    assert "2 frames for HH_B, which is kept from the recording; found 30" in said


def test_what_is_done_to_a_recording_is_said(sample) -> None:
    for name, said in (
        ("high.wav", "1 file was at 44,100 Hz, brought to 16,000 Hz"),
        ("stereo.wav", "1 file was in stereo or more, mixed down to one channel"),
        ("loud.wav", "1 of 1 files clips (too loud when recorded): loud.wav"),
    ):
        _, lines = sample("--text", "Hello", "--voice", name, NEVER_SAYS, "--out", "v.wav")
        assert said in lines
    _, lines = sample("--text", "Hello", "--voice", "bare.wav", "has", "--out", "v.wav")
    assert "bare.wav: low alignment score (below -6); check that the text is 'has'" in lines
    _, lines = sample(*TASKS["denoise"], "--out", "d.wav")
    assert "extended to whole phones: 0.41 to 0.95 s" in lines
    _, lines = sample("--text", "Hello", "--voice", "bare.wav", NEVER_SAYS, "--out", "v.wav")
    assert any(line.startswith("using the first 0.") for line in lines)


def test_spans_reach_to_the_end_of_a_recording_and_may_be_short(sample) -> None:
    whole = len(clip(NEVER).samples) / RATE
    for span in (f"1.5:{whole:.4f}", "0:0.004", "0.5:0.501"):
        sample("--denoise", NEVER, NEVER_SAYS, "--span", span, "--out", "d.wav")


def test_words_that_are_missing_are_spelled(sample, refused) -> None:
    said = refused(1, "sample", "run", "--text", "Hello zyqqxv wuggle")
    assert "zyqqxv, wuggle" in said
    assert "Hello" not in said
    assert "--spell" in said
    sample("--text", "Hello zyqqxv wuggle", "--spell", "--out", "s.wav")
    said = refused(1, "sample", "run", "--text", "Hi", "--voice", "bare.wav", "has zyqqxv been")
    assert "zyqqxv" in said
    assert "--spell" in said
    assert "--spell" not in refused(1, "sample", "run", "--text", "你好", "--spell")
    assert len(refused(1, "sample", "run", "--text", "x" * 500)) < 200


def test_what_is_said_stands_beside_or_is_heard(sample, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = "feller.app.workflows.speech.sample_speech._transcribe"
    monkeypatch.setattr(heard, lambda path: NEVER_SAYS)
    _, lines = sample("--text", "Hello", "--voice", "bare.wav", "--out", "v.wav")
    assert f"transcript of bare.wav: {NEVER_SAYS}" in lines
    monkeypatch.setattr(heard, lambda path: "")
    assert '--voice bare.wav "..."' in refused(1, "sample", "run", "--text", "Hello", "--voice", "bare.wav")

    def absent(path: pathlib.Path) -> str:
        raise UsageError("hearing words needs faster_whisper")

    monkeypatch.setattr(heard, absent)
    said = refused(2, "sample", "run", "--content", "bare.wav")
    assert [text for text in ('--content bare.wav "..."', "bare.txt", "faster_whisper") if text not in said] == []
    beside = pathlib.Path("bare.txt")
    try:
        beside.write_text(NEVER_SAYS)
        sample("--content", "bare.wav", "--out", "c.wav")
        beside.write_text(" \n")
        assert "bare.txt: " in refused(1, "sample", "run", "--content", "bare.wav")
        beside.write_bytes(b"\xff\x81")
        said = refused(1, "sample", "run", "--content", "bare.wav")
        assert "bare.txt: " in said
        assert "UTF-8" in said
    finally:
        beside.unlink()


VOICE = ("--text", "Hello", "--voice")


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        # recordings
        (1, (*VOICE, "silent.wav", "a"), "silent.wav: the recording is silent"),
        (1, (*VOICE, "short.wav", "a"), "short.wav: expected at least 0.05 s; found 0.025 s"),
        (1, (*VOICE, "brief.wav", NEVER_SAYS), "long enough for 16 phones; found 0.06 s"),
        (1, (*VOICE, "noise.wav", NEVER_SAYS), "noise.wav: the text does not match"),
        (1, (*VOICE, "bare.wav", "the price of oranges rose a lot"), "bare.wav: the text does not match"),
        (1, (*VOICE, "broken.wav", "a"), "broken.wav: expected an audio file (.wav, .flac, .ogg, .opus, .mp3); found"),
        (1, (*VOICE, "folder.wav", "a"), "folder.wav: expected an audio file; found a folder. Name a file"),
        (1, (*VOICE, "none.wav", "a"), "none.wav: expected an audio file; found none"),
        (1, (*VOICE, "bare.wav", ""), "bare.wav: expected at least one word; found ''"),
        (1, (*VOICE, "bare.wav", "$5"), "found '$5'. Write this token in words"),
        (
            2,
            (*VOICE, "bare.wav", "a", "b"),
            "--voice: expected an audio file and, in quotes, its text; found bare.wav a b",
        ),
        (1, ("--content", "long.wav", f"{NEVER_SAYS} {NEVER_SAYS}"), "long.wav: expected at most 3 s"),
        # texts
        (2, (), "found none of these"),
        (2, ("--text", ""), "--text: expected words; found an empty text"),
        (2, ("--text", " \n "), "--text: expected words; found an empty text"),
        (1, ("--text", "... !"), "expected at least one word; found '... !'"),
        (1, ("--text", "hello 😀"), "found '😀'. Write this token in words"),
        (1, ("--text", "3/4"), "found '3/4'. Write the fraction in words"),
        (
            2,
            ("--text", "hello", "--language", "de"),
            "--language: applies only to models of languages other than English",
        ),
        # spans
        *(
            (
                2,
                ("--denoise", NEVER, NEVER_SAYS, "--span", span),
                "--span: expected FROM:TO in seconds, such as 1.2:2.0; found",
            )
            for span in ("0.5", "0.5:", ":", "", "a:b", "-1:0.5", "1e0:2e0", "0.1:0.2:0.3", "nan:inf", "0:" + "9" * 400)
        ),
        *(
            (2, ("--denoise", NEVER, NEVER_SAYS, "--span", span), "with FROM before TO")
            for span in ("0.9:0.5", "0.5:0.5")
        ),
        (
            2,
            ("--denoise", NEVER, NEVER_SAYS, "--span", "0.5:99"),
            "expected a span inside the 1.78 s of LJ001-0008.flac",
        ),
        (2, ("--denoise", NEVER, NEVER_SAYS, "--span", "5:6"), "expected a span inside the 1.78 s of LJ001-0008.flac"),
        # flags together
        (2, ("--denoise", NEVER), "--denoise: requires --span"),
        (2, ("--span", "0.1:0.2", "--text", "a"), "--span: requires --denoise"),
        (2, ("--style", NEVER, "--text", "a"), "--style: requires --content"),
        (2, ("--voice", NEVER), "--voice: requires --text"),
        (2, ("--edit", NEVER), "--edit: requires --text"),
        (2, ("--durations", "a.csv"), "--durations: requires --text"),
        (2, ("--content", NEVER, "--text", "a"), "--content: keeps the text of the recording"),
        (2, ("--voice", NEVER, "--edit", NEVER, "--text", "a"), "--edit: expected"),
        (2, ("--denoise", NEVER, "--span", "0:1", "--content", NEVER), "--denoise: expected"),
        (2, ("--content", NEVER, "--speed", "2"), "--speed: applies only to --text without --durations"),
        (2, ("--text", "a", "--durations", "a.csv", "--speed", "2"), "--speed: applies only to --text"),
        # numbers
        (2, ("--text", "a", "-n", "0"), "-n: expected at least 1; found 0"),
        (2, ("--text", "a", "-n", "x"), "expected a whole number; found 'x'"),
        *((2, ("--text", "a", "--speed", v), "--speed: expected") for v in ("0", "-1", "nan", "inf", "9")),
        *((2, ("--text", "a", "--guidance", v), "between -100 and 100") for v in ("1e9", "nan", "inf")),
        (2, ("--text", "a", "--nfe", "0"), "--nfe: expected at least 1; found 0"),
        (2, ("--text", "a", "--nfe", "1"), "expected at least 2"),
        (2, ("--text", "a", "--solver", "magic"), "solver: expected"),
        # places
        (2, ("--text", "a", "--out", "a.mp3"), "cannot write this data type as .mp3. Use .npz, .wav, or a folder"),
        (2, ("--text", "a", "--out", "a.csv"), "cannot write this data type as .csv"),
        (2, ("--text", "a", "--out", "a.wav", "-n", "2"), "-n: expected one recording for a.wav; found 2"),
        (1, ("--text", "a", "--out", "many"), "many: is not empty and was not written by feller"),
        (1, ("--text", "a", "--out", "broken.wav/a.wav"), "cannot write broken.wav/a.wav"),
        (1, ("--text", "a", "--out", "folder.wav"), "folder.wav: is a folder"),
        # vocoders
        (2, ("--text", "a", "--vocoder", "magic"), "expected griffin-lim, griffin-lim:ITERATIONS"),
        (2, ("--text", "a", "--vocoder", "griffin-lim:x"), "from 1 to 10,000; found griffin-lim:x"),
        (2, ("--text", "a", "--vocoder", "run"), "run: not a vocoder run"),
        (1, ("--text", "a", "--vocoder", "many"), "many: expected a run, or config.json"),
        (1, ("--text", "a", "--vocoder", "bare.wav"), "bare.wav: expected a .safetensors file"),
        # flags of others
        *(
            (2, ("--text", "a", *flag), f"{flag[0]}: does not apply to speech models. Leave it out")
            for flag in (
                *(
                    ("--temperature", "2"),
                    ("--top-k", "3"),
                    ("--top-p", "0.5"),
                    ("--given", "a=b"),
                    ("--template", "x"),
                ),
                *(("--superpose", "jump=1"), ("--complete", "x.csv"), ("--prompt", "x"), ("--mask", "x")),
                *(("--ask", "a", "b"), ("--memory", "x"), ("--documents", "3"), ("--order", "entropy")),
                *(("--from", "x"), ("--backward",), ("--best-of", "3"), ("--min-p", "0.5"), ("--contrast", "3")),
            )
        ),
    ],
)
def test_what_is_wrong_is_told(refused, status: int, words: tuple[str, ...], said: str) -> None:
    assert said in refused(status, "sample", "run", *words)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*HELLO, ("SIL", 1)], "durations of the 6 phones of the text, including silences; found 7"),
        ([("SIL", 5), ("Y_B", 6), *HELLO[2:]], "expected HH_B as phone 2 of the text; found Y_B"),
        ([("SIL", 5), ("HH_B", 0), *HELLO[2:]], "line 3: expected 1 to"),
        ([("SIL", 5), ("HH_B", -2), *HELLO[2:]], "found '-2'"),
        ([("SIL", 5), ("HH_B", 1.5), *HELLO[2:]], "found '1.5'"),
        ([("SIL", 5), ("HH_B", 900), *HELLO[2:]], "--durations: expected at most 3.0 s"),
    ],
)
def test_wrong_tables_are_told(refused, rows: list, said: str) -> None:
    assert said in refused(1, "sample", "run", "--text", "hello", "--durations", table("wrong.csv", rows))


def test_tables_that_are_not_there_are_told(refused) -> None:
    for place, found in (("nowhere.csv", "none"), ("many", "a folder. Name a file")):
        said = refused(1, "sample", "run", "--text", "hello", "--durations", place)
        assert f"{place}: expected a table of durations; found {found}" in said


def test_vocoders_of_all_kinds(sample, refused, capsys: pytest.CaptureFixture[str]) -> None:
    pathlib.Path("gan").mkdir()
    config = {**CONFIG, "upsample_rates": [5, 8, 4], "upsample_kernel_sizes": [11, 16, 8]}
    pathlib.Path("gan/config.json").write_text(json.dumps(config))
    network = HiFiGANNetwork(HiFiGAN((5, 8, 4), (11, 16, 8), 8, (3,), ((1, 3),)), 80)
    for i, weight in enumerate(network.parameters()):
        weight.data = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
    save_tensors(pathlib.Path("gan/generator.safetensors"), network.state_dict())
    words = ("--text", "Hello", "--durations", table("hello.csv", HELLO))
    for vocoder, name in (("griffin-lim:3", "g"), ("gan", "h"), ("gan/generator.safetensors", "f")):
        assert main(["sample", "run", *words, "--vocoder", vocoder, "--out", f"{name}.wav"]) == 0
    assert len(samples("g.wav")) == len(samples("h.wav")) == 45 * HOP
    assert np.array_equal(samples("h.wav"), samples("f.wav"))
    assert not np.array_equal(samples("h.wav"), samples("g.wav"))
    capsys.readouterr()
    pathlib.Path("pickled").mkdir()
    shutil.copy("gan/config.json", "pickled/config.json")
    pathlib.Path("pickled/generator.pt").write_bytes(b"\x80")
    assert "is a pickle" in refused(1, "sample", "run", *words, "--vocoder", "pickled")
    pathlib.Path("gan/config.json").write_text(
        json.dumps({**config, "sampling_rate": MelConfig.default_for(8_000).sample_rate})
    )
    assert "weights for other log mels" in refused(1, "sample", "run", *words, "--vocoder", "gan")


def test_flags_of_speech_mean_nothing_to_other_runs(refused, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "example:moons", "--size", "tiny", "--steps", "2", "--out", "moons"]) == 0
    capsys.readouterr()
    for flag in (
        *(("--text", "a"), ("--voice", NEVER), ("--denoise", NEVER), ("--span", "0:1"), ("--style", NEVER)),
        *(("--content", NEVER), ("--speed", "2"), ("--durations", "a.csv"), ("--spell",), ("--language", "de")),
        ("--vocoder", "griffin-lim"),
    ):
        said = refused(2, "sample", "moons", *flag)
        assert said == f"feller: {flag[0]}: applies to speech models only. Leave it out"


def test_a_run_can_be_moved_and_must_be_whole(sample, refused) -> None:
    shutil.copytree("run", "moved/deep/run")
    sample("--text", "Hello", "--out", "m.wav", run="moved/deep/run")
    lost = pathlib.Path("moved/deep/run/durations.safetensors")
    whole = lost.read_bytes()
    lost.write_bytes(whole[:-100])
    assert "durations.safetensors: is damaged" in refused(1, "sample", "moved/deep/run", "--text", "a")
    lost.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "does not match" in refused(1, "sample", "moved/deep/run", "--text", "a")
    lost.unlink()
    said = refused(1, "sample", "moved/deep/run", "--text", "a")
    assert "run/durations.safetensors: " in said


def test_a_fit_is_resumed_with_the_durations_that_it_learned_with(speaking, sample, refused, capsys):
    shutil.copytree(speaking, "resumed")
    before = {name: pathlib.Path(f"resumed/{name}.safetensors").read_bytes() for name in ("durations", "rhythm")}
    assert main(["fit", "--resume", "--out", "resumed", "--steps", "4"]) == 0
    assert "resuming after step 3" in capsys.readouterr().err
    for name, content in before.items():
        assert pathlib.Path(f"resumed/{name}.safetensors").read_bytes() == content
    sample("--text", "Hello", "--out", "r.wav", run="resumed")
    pathlib.Path("resumed/rhythm.safetensors").unlink()
    said = refused(1, "fit", "--resume", "--out", "resumed", "--steps", "5")
    assert "rhythm.safetensors is missing, but the model was trained with this network" in said


def test_other_commands_say_what_a_model_of_speech_is_for(speaking: pathlib.Path, refused) -> None:
    pathlib.Path("reward.py").write_text("def loud(values):\n    return values['mel'].mean((1, 2))\n")
    only = 'Use: feller sample RUN --text "..."'
    reward = ("--reward", "reward.py:loud")
    assert only in refused(2, "steer", "run", *reward, "-n", "1")
    assert only in refused(2, "tune", "run", *reward, "--steps", "1", "--out", "tuned")
    assert only in refused(2, "tune", "run", *reward, "--steps", "1", "--method", "policy-gradient", "--out", "tuned")
    assert not pathlib.Path("tuned").exists()
    assert only in refused(2, "audit", "run")
    assert "this model's data are speech" in refused(2, "steer", "run", "--observe", NEVER, "--operator", "mask")
    data = speaking.parent / "clips"
    assert "a bridge needs numeric rows or images" in refused(2, "bridge", data, data)
    for recipe in ("distil", "reflow"):
        words = ("--recipe", recipe, "--start-from", "run", "--steps", "1", "--out", "straight")
        assert "a model of speech fills in" in refused(2, "fit", data, *words)
