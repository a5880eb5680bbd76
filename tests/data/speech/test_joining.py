"""Sounds put together: lengths, no clicks, and a recording that stays what it is."""

import numpy as np
import pytest

from feller.data.loading.raw import Sound
from feller.data.speech.audio_io import crossfaded, laid_over

RATE, HOP = 8_000, 80
RAMP = 80
"""Samples over which a recording goes over into what is new."""


def tone(n: int, frequency: float, phase: float = 0.0) -> Sound:
    samples = 0.5 * np.sin(2 * np.pi * frequency * np.arange(n) / RATE + phase)
    return Sound(samples.astype(np.float32), RATE)


def jump(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples)).max())


@pytest.mark.parametrize("lengths", [(900, 700), (900, 700, 800), (900, 100, 800), (50, 900), (900, 240, 240)])
def test_sounds_fade_into_each_other(lengths: tuple[int, ...]) -> None:
    """Each seam takes 30 ms, or as much as there is; a ramp adds at most its own slope to the jump."""
    sounds = [tone(n, 200 + 150 * i, i) for i, n in enumerate(lengths)]
    whole = crossfaded(sounds).samples
    overlaps, so_far = 0, lengths[0]
    for n in lengths[1:]:
        shared = min(240, so_far, n)
        overlaps, so_far = overlaps + shared, so_far + n - shared
    assert len(whole) == sum(lengths) - overlaps
    assert whole.dtype == np.float32
    least = min(240, *lengths)
    assert jump(whole) <= max(jump(sound.samples) for sound in sounds) + 2 * 0.5 / (least - 1) + 1e-6
    alone = max(lengths[0] - 240, 0)
    assert np.array_equal(whole[:alone], sounds[0].samples[:alone])


def test_one_sound_is_itself_and_the_same_twice_stays_where_it_overlaps() -> None:
    sound = tone(900, 200)
    assert np.array_equal(crossfaded([sound]).samples, sound.samples)
    # a tone whose period divides what does not overlap goes on as if nothing had been done
    first, second = tone(900, 200), tone(700, 200, phase=2 * np.pi * 200 * 660 / RATE)
    np.testing.assert_allclose(crossfaded([first, second]).samples, tone(1360, 200).samples, atol=1e-5)


def test_seconds_of_the_fade_are_those_that_are_asked_for() -> None:
    assert len(crossfaded([tone(900, 200), tone(900, 200)], 0.0).samples) == 1800
    assert len(crossfaded([tone(900, 200), tone(900, 200)], 0.05).samples) == 1400


@pytest.mark.parametrize("kept", [(2, 6), (0, 4), (5, 10), (0, 10), (3, 4)])
def test_what_is_kept_is_the_recording_away_from_its_edges(kept: tuple[int, int]) -> None:
    first, last = kept
    made, recorded = tone(10 * HOP, 300), tone(40 * HOP, 170, 1.0)
    marks, origin = np.zeros(10, dtype=bool), np.full(10, -1)
    marks[first:last], origin[first:last] = True, np.arange(20, 20 + last - first)
    whole = laid_over(made, recorded, marks, origin, HOP).samples
    piece = recorded.samples[20 * HOP : (20 + last - first) * HOP]
    ramp = min(RAMP, len(piece) // 2)
    begin, end = ramp if first else 0, len(piece) - (ramp if last < 10 else 0)
    assert len(whole) == len(made.samples)
    assert np.array_equal(whole[: first * HOP], made.samples[: first * HOP])
    assert np.array_equal(whole[last * HOP :], made.samples[last * HOP :])
    assert np.array_equal(whole[first * HOP + begin : first * HOP + end], piece[begin:end])
    assert jump(whole) <= max(jump(made.samples), jump(recorded.samples)) + 1.0 / ramp
    assert np.array_equal(made.samples, tone(10 * HOP, 300).samples)  # what was made is left alone


def test_frames_that_do_not_follow_each_other_in_the_recording_are_two_pieces() -> None:
    made, recorded = tone(8 * HOP, 300), tone(40 * HOP, 170)
    origin = np.array([-1, 4, 5, 20, 21, 22, -1, -1])
    whole = laid_over(made, recorded, origin >= 0, origin, HOP).samples
    inside = slice(4 * HOP + 10, 5 * HOP - 10)  # the middle of the second piece
    assert np.array_equal(whole[inside], recorded.samples[21 * HOP + 10 : 22 * HOP - 10])
    assert jump(whole) <= max(jump(made.samples), jump(recorded.samples)) + 1.0 / RAMP


def test_the_part_of_a_frame_at_the_end_of_a_recording_is_no_trouble() -> None:
    made, recorded = tone(4 * HOP, 300), tone(4 * HOP - 7, 170)
    whole = laid_over(made, recorded, np.ones(4, dtype=bool), np.arange(4), HOP).samples
    assert len(whole) == 4 * HOP
    assert np.array_equal(whole[: 4 * HOP - 7], recorded.samples)
