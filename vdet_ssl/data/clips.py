"""When the clips of a video start and which instants their frames show: pure functions of time (sections 3.1, 4.2, B.1).

A clip of T frames with stride tau covers T * tau raw frames, hence T * tau / frame_rate seconds: its span.  Clips lie
inside the video.  A video shorter than the span gets clips that start at 0 and run past its end; the reader answers
times before the first frame with the first frame and times after the last with the last, so such a clip holds its
last frame.
"""

import numpy as np


def clip_span_s(*, num_frames, sampling_rate, frame_rate, speed=1.0):
    """Return the time that T * tau raw frames take, in seconds.

    Args:
        num_frames: T.
        sampling_rate: tau, in raw frames.
        frame_rate: raw frames a second.
        speed: how fast the clip is played; at 1.5 it covers 1.5 times the time.
    """
    return num_frames * sampling_rate * speed / frame_rate


def draw_speeds(rng, *, num_clips, jitter):
    """Draw the speed of each clip from 1 +- jitter: frame-rate jittering (section 4.5, Table 7).

    Returns:
        float64 array (num_clips,)
    """
    return rng.uniform(1.0 - jitter, 1.0 + jitter, num_clips)


def draw_start_times(rng, *, num_clips, duration_s, span_s, t_max_s):
    """Draw the start times of rho clips of one video, uniformly over all admissible tuples (sections 4.2, B.1).

    A tuple is admissible if each clip lies inside the video and no two clips start more than `t_max_s` apart.

    Args:
        num_clips: rho.
        duration_s: of the video.
        span_s: of a clip; where the clips differ, of the longest one.
        t_max_s: longest time between the starts of two clips; negative: unlimited, 0: all start together.
    Returns:
        float64 array (num_clips,) of seconds, in random order; zeros where the video is shorter than the span.
    """
    latest = max(duration_s - span_s, 0.0)
    reach = latest if t_max_s < 0 else min(t_max_s, latest)
    # Given the earliest start m, the other rho - 1 are uniform in [m, min(m + reach, latest)].  So the density of m is
    # proportional to reach ** (rho - 1) up to latest - reach, and to (latest - m) ** (rho - 1) from there on.
    # The two parts integrate to these, divided by reach ** (rho - 1):
    flat, tail = latest - reach, reach / num_clips
    if rng.random() * (flat + tail) < flat:
        earliest = rng.uniform(0.0, flat)
    else:
        earliest = latest - reach * rng.random() ** (1.0 / num_clips)
    starts = rng.uniform(earliest, min(earliest + reach, latest), num_clips)
    starts[rng.integers(num_clips)] = earliest
    return starts


def frame_times(start_s, *, num_frames, sampling_rate, frame_rate, spacing, speed=1.0):
    """Return the times of a clip's frames.

    Args:
        start_s: time of the first frame, in seconds.
        num_frames, sampling_rate, frame_rate, speed: as in `clip_span_s`.
        spacing: "stride": frame i is i * tau raw frames after the first (section 3.1).  "linspace": spread evenly from
            the first to the last of the T * tau raw frames, as PySlowFast does.
    Returns:
        float64 array (T,) of seconds
    """
    if spacing == "stride":
        raw_frames = np.arange(num_frames, dtype=np.float64) * sampling_rate
    elif spacing == "linspace":
        raw_frames = np.linspace(0.0, num_frames * sampling_rate - 1.0, num_frames)
    else:
        raise ValueError(f'INPUT.FRAME_SPACING is "{spacing}"; it has to be "stride" or "linspace"')
    return start_s + raw_frames * (speed / frame_rate)


def centered_start_s(*, duration_s, span_s):
    """Return the start of the clip in the middle of a video, in seconds; 0 where the video is shorter than the span."""
    return max(duration_s - span_s, 0.0) / 2


def centered_frame_times(timestamp_s, *, num_frames, sampling_rate, frame_rate):
    """Return the times of the frames of a clip centred at a key frame (B.3).

    Frame i is i * tau - T * tau // 2 raw frames from the key frame, as in PySlowFast: of 8 frames the fifth is the key
    frame.  Times may lie outside the video (see the top of this file).

    Args:
        timestamp_s: of the key frame.
        num_frames, sampling_rate, frame_rate: as in `clip_span_s`.
    Returns:
        float64 array (T,) of seconds
    """
    raw_frames = np.arange(num_frames) * sampling_rate - num_frames * sampling_rate // 2
    return timestamp_s + raw_frames / frame_rate
