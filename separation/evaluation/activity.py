"""Where a recording is active, and how loud it is there: from the power of its frames.

Power is a signal's mean square in each frame, shape (frame,); `frame_rate` is in frames a second.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import find_peaks

AROUND_SECONDS = 120
"""How far the speech may be against which a frame counts as a pause."""
QUIETEST = 1e-3
"""Power of the quietest speech, relative to the loudest: what is far below even that is a pause of any length."""
LEVEL_SECONDS = 3
"""Stretches over which levels are compared to find where they change."""
SYLLABLE = 0.25
"""In seconds."""
CLICK = 100
"""Times the median power, beyond which frames don't count."""
LEVEL_CHANGE = 8.0
"""In dB. The scores of a trained network keep within some 6 dB of its training level."""


def active_frames(power: np.ndarray, frame_rate: float, pause_level: float, pause_seconds: float) -> np.ndarray:
    """The frames that belong to speech (or whatever is loud): all but long pauses.

    A frame is loud within `pause_level` dB of the speech around it: of the loudest second in the two minutes before or
    in those after, whichever is quieter, so that something far louder on one side hides no speech; but of nothing that
    is 30 dB below the loudest second of all.

    Returns:
        True for frames less than half of `pause_seconds` away from a loud one, shape (frame,). Silence is all True.
    """
    second = max(1, round(frame_rate))
    # The 90th percentile of each second: a click is shorter than the rest.
    padded = np.pad(power, (0, -len(power) % second), mode="edge").reshape(-1, second)
    seconds = np.percentile(padded, 90, axis=1)
    before = maximum_filter1d(seconds, AROUND_SECONDS, mode="nearest", origin=AROUND_SECONDS // 2 - 1)
    after = maximum_filter1d(seconds, AROUND_SECONDS, mode="nearest", origin=-(AROUND_SECONDS // 2))
    reference = np.minimum(before, after).clip(min=QUIETEST * seconds.max(initial=0))
    reference = np.repeat(reference, second)[: len(power)]
    loud = power >= reference * 10 ** (-pause_level / 10)
    return maximum_filter1d(loud.astype(np.uint8), 2 * round(frame_rate * pause_seconds / 2) + 1, mode="nearest") > 0


def level_gains(power: np.ndarray, frame_rate: float, rms: float) -> np.ndarray:
    """Brings active frames to a level: one gain for all, or one for each stretch where the level changes for long.

    Args:
        power: of active frames.
        rms: the level to reach.

    Returns:
        A factor for each frame's samples, shape (frame,); 1 in silence.
    """
    half = max(1, round(LEVEL_SECONDS * frame_rate / 2))
    # Of syllables; the median of some seconds then hardly depends on clicks and on the pauses between words.
    mean = uniform_filter1d(power, max(1, round(SYLLABLE * frame_rate))).clip(min=0)  # its running sum may round below
    level = 10 * np.log10(mean + np.finfo(np.float32).tiny)
    median = np.pad(median_filter(level, 2 * half + 1, mode="reflect"), half, mode="edge")
    before, after = median[: len(power)], median[2 * half :]
    borders = []
    for peak in find_peaks(np.abs(after - before), height=LEVEL_CHANGE, distance=2 * half)[0]:
        # The change is around there: where the frames cease to be nearer to the level before than to that after.
        first = max(0, peak - half)
        near = level[first : peak + half]
        borders.append(first + np.sum(np.abs(near - before[peak]) < np.abs(near - after[peak])))
    gains = np.ones(len(power), dtype=np.float32)
    for stretch in np.split(np.arange(len(power)), borders):
        values = power[stretch]
        # A click that is far louder than the rest of its stretch doesn't count.
        mean = np.minimum(values, CLICK * np.median(values)).mean(dtype=np.float64) if len(values) else 0.0
        if mean > 0:
            gains[stretch] = rms / np.sqrt(mean)
    return gains
