import numpy as np
import pytest
from scipy import stats

from vdet_ssl.config import get_cfg
from vdet_ssl.data.clips import ClipSpec, RandomClips, SegmentClip, UniformClips, draw_start_times

EIGHT = ClipSpec(num_frames=8, sampling_rate=8, frame_rate=30.0)


def draws(n, *, num_clips, latest_s=8.0, t_max_s=-1.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([draw_start_times(rng, num_clips=num_clips, latest_s=latest_s, t_max_s=t_max_s) for _ in range(n)])


def starts_of(sampler, duration_s, fps=30.0, seed=0):
    return [times[0] for times in sampler(np.random.default_rng(seed), duration_s, fps)]


def rejection(n, *, num_clips, latest, t_max_s, seed=1):
    """Uniform over the admissible tuples by definition: draw from the cube, keep what is admissible."""
    rng = np.random.default_rng(seed)
    kept = []
    while sum(map(len, kept)) < n:
        cube = rng.uniform(0, latest, (100_000, num_clips))
        kept.append(cube[np.ptp(cube, axis=1) <= t_max_s])
    return np.concatenate(kept)[:n]


@pytest.mark.parametrize("t_max_s", [-1.0, 0.5, 2.0, 5.0, 7.9, 100.0])
def test_pairs_are_uniform_over_all_admissible_pairs(t_max_s):
    starts = draws(8_000, num_clips=2, t_max_s=t_max_s)
    reach = 8.0 if t_max_s < 0 else t_max_s
    # cells of equal size that lie inside the admissible band, wholly
    edges = np.linspace(0, 8, 33)
    counts, _, _ = np.histogram2d(*starts.T, bins=edges)
    low, high = edges[:-1], edges[1:]
    inside = np.maximum(high[:, None] - low[None], high[None] - low[:, None]) <= reach + 1e-9
    assert inside.sum() >= 32
    cells = counts[inside]
    admissible_area = 8.0**2 - max(8.0 - reach, 0) ** 2
    expected = len(starts) * (0.25**2) / admissible_area
    chi2 = ((cells - expected) ** 2 / expected).sum()
    assert 1e-3 < stats.chi2.sf(chi2, df=len(cells)) < 1 - 1e-3


@pytest.mark.parametrize("num_clips", [1, 2, 3, 4])
@pytest.mark.parametrize("t_max_s", [1.0, 4.0, 8.0])
def test_tuples_match_rejection_sampling(num_clips, t_max_s):
    ours = draws(5_000, num_clips=num_clips, t_max_s=t_max_s)
    reference = rejection(5_000, num_clips=num_clips, latest=8.0, t_max_s=t_max_s)
    for statistic in (
        lambda x: x[:, 0],
        lambda x: x[:, -1],
        lambda x: x.min(1),
        lambda x: x.max(1),
        lambda x: np.ptp(x, 1),
    ):
        if np.ptp(statistic(reference)) > 0:
            assert stats.ks_2samp(statistic(ours), statistic(reference)).pvalue > 1e-3


@pytest.mark.parametrize("num_clips", [2, 3, 4, 8])
@pytest.mark.parametrize("t_max_s", [0.0, 0.1, 1.0, 6.0, 50.0, -1.0])
def test_every_clip_lies_in_the_video_and_every_pair_within_t_max(num_clips, t_max_s):
    starts = draws(1_000, num_clips=num_clips, t_max_s=t_max_s)
    assert starts.min() >= 0 and starts.max() <= 8.0
    widest = np.ptp(starts, axis=1).max()
    limit = 8.0 if t_max_s < 0 else min(t_max_s, 8.0)
    assert widest <= limit + 1e-12
    assert widest >= 0.9 * limit  # and the limit is made use of


def test_one_clip_starts_uniformly():
    for t_max_s in (-1.0, 0.0, 3.0):
        assert stats.kstest(draws(5_000, num_clips=1, t_max_s=t_max_s)[:, 0], "uniform", (0, 8)).pvalue > 1e-3


@pytest.mark.parametrize("duration_s", [0.0, 0.5, 64 / 30])
def test_a_video_no_longer_than_the_span_starts_at_zero(duration_s):
    for sampler in (RandomClips(EIGHT, num_clips=3), UniformClips(EIGHT), UniformClips(EIGHT, 4)):
        for seed in range(20):
            assert set(starts_of(sampler, duration_s, seed=seed)) == {0.0}


def test_draws_follow_from_the_generator_alone():
    np.testing.assert_array_equal(draws(5, num_clips=3, seed=7), draws(5, num_clips=3, seed=7))
    assert (draws(5, num_clips=3, seed=7) != draws(5, num_clips=3, seed=8)).all()
    sampler = RandomClips(EIGHT, num_clips=3, frame_rate_jitter=0.5)
    first, again, other = (sampler(np.random.default_rng(seed), 10.0, 30.0) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.not_equal(first, other).all()


def test_what_a_clip_is():
    linspace = ClipSpec(num_frames=8, sampling_rate=8, frame_rate=30.0, spacing="linspace")
    np.testing.assert_allclose(EIGHT.times_s(2.0, fps=25.0), [2 + 8 * i / 30 for i in range(8)])
    np.testing.assert_allclose(linspace.times_s(2.0, fps=25.0), [2 + 9 * i / 30 for i in range(8)])
    np.testing.assert_allclose(EIGHT.times_s(2.0, fps=25.0, speed=1.5), [2 + 12 * i / 30 for i in range(8)])
    assert EIGHT.span_s(fps=25.0) == linspace.span_s(fps=25.0) == pytest.approx(64 / 30)
    assert EIGHT.span_s(fps=25.0, speed=1.5) == pytest.approx(96 / 30)


def test_without_a_frame_rate_it_is_the_videos_own():
    own = ClipSpec(num_frames=8, sampling_rate=8)
    assert own.span_s(fps=25.0) == pytest.approx(64 / 25)
    np.testing.assert_allclose(own.times_s(2.0, fps=25.0), [2 + 8 * i / 25 for i in range(8)])
    np.testing.assert_allclose(own.times_around_s(2.0, fps=25.0), [2 + (8 * i - 32) / 25 for i in range(8)])


def test_a_clip_from_a_config():
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.NUM_FRAMES", 4, "INPUT.SAMPLING_RATE", 16, "INPUT.FRAME_SPACING", "linspace"])
    assert ClipSpec.from_cfg(cfg) == ClipSpec(4, 16, 30.0, "linspace")
    assert ClipSpec.from_cfg(cfg, spacing="stride") == ClipSpec(4, 16, 30.0, "stride")
    with pytest.raises(ValueError, match="spacing"):
        ClipSpec(4, 16, spacing="random")


def test_speeds_cover_the_jitter_range_uniformly_and_every_clip_ends_within_the_video():
    sampler = RandomClips(EIGHT, num_clips=4, frame_rate_jitter=0.5)
    clips = [times for seed in range(500) for times in sampler(np.random.default_rng(seed), 5.0, 30.0)]
    speeds = [np.diff(times).mean() * 30 / 8 for times in clips]
    assert stats.kstest(speeds, "uniform", (0.5, 1.0)).pvalue > 1e-3
    ends = [times[0] + EIGHT.span_s(30.0, speed) for times, speed in zip(clips, speeds, strict=True)]
    assert 4.9 < max(ends) <= 5.0 + 1e-9
    steps = np.diff(RandomClips(EIGHT)(np.random.default_rng(0), 5.0, 30.0))
    np.testing.assert_allclose(steps, 8 / 30)


@pytest.mark.parametrize("num_frames, sampling_rate", [(8, 8), (4, 16), (32, 2), (1, 1), (5, 3)])
def test_clip_around_a_key_frame_shows_the_frames_that_pyslowfast_takes(num_frames, sampling_rate):
    key_frame, half = 902 * 30, num_frames * sampling_rate // 2
    expected = [key_frame - half + i * sampling_rate for i in range(num_frames)]
    times = ClipSpec(num_frames, sampling_rate, 30.0).times_around_s(902.0, fps=25.0)
    np.testing.assert_allclose(times * 30, expected)
    if num_frames % 2 == 0:
        assert times[num_frames // 2] == 902.0


def test_one_uniform_clip_is_in_the_middle():
    assert starts_of(UniformClips(EIGHT), 10.0) == [pytest.approx((10 - 64 / 30) / 2)]


def test_uniform_clips_reach_from_the_start_to_the_end():
    latest_s = 10 - 64 / 30
    assert starts_of(UniformClips(EIGHT, 2), 10.0) == [0.0, pytest.approx(latest_s)]
    assert starts_of(UniformClips(EIGHT, 5), 10.0) == pytest.approx([i * latest_s / 4 for i in range(5)])
    for times in UniformClips(EIGHT, 5)(np.random.default_rng(0), 10.0, 30.0):
        np.testing.assert_allclose(np.diff(times), 8 / 30)


def pyslowfast_segments(num_raw_frames, num_frames):
    """First and last frame of each segment, inclusive, as PySlowFast's Something-Something data set has them."""
    size = float(num_raw_frames - 1) / num_frames
    return [(int(np.round(size * i)), int(np.round(size * (i + 1)))) for i in range(num_frames)]


@pytest.mark.parametrize("num_raw_frames", [1, 2, 7, 8, 9, 33, 48, 100])
@pytest.mark.parametrize("num_frames", [1, 4, 8])
def test_segments_are_those_of_pyslowfast(num_raw_frames, num_frames):
    segments = pyslowfast_segments(num_raw_frames, num_frames)
    duration_s = num_raw_frames / 12
    (times,) = SegmentClip(num_frames)(np.random.default_rng(0), duration_s, 12.0)
    np.testing.assert_allclose(times * 12, [(first + last) // 2 for first, last in segments])
    sampler = SegmentClip(num_frames, is_random=True)
    drawn = np.array([sampler(np.random.default_rng(seed), duration_s, 12.0)[0] for seed in range(1500)]) * 12
    np.testing.assert_allclose(drawn, drawn.round(), atol=1e-9)
    for frames, (first, last) in zip(drawn.T, segments, strict=True):
        assert frames.min() == pytest.approx(first) and frames.max() == pytest.approx(last)


def test_segments_are_of_frames_of_the_rate_that_is_asked_for():
    (times,) = SegmentClip(4, frame_rate=30.0)(np.random.default_rng(0), 2.0, 12.0)
    np.testing.assert_allclose(times * 30, [(first + last) // 2 for first, last in pyslowfast_segments(60, 4)])


def test_the_frame_of_a_segment_is_drawn_uniformly():
    sampler = SegmentClip(4, is_random=True)
    drawn = [sampler(np.random.default_rng(seed), 41 / 10, 10.0)[0] * 10 for seed in range(2000)]
    for frames, (first, last) in zip(np.round(drawn).T, pyslowfast_segments(41, 4), strict=True):
        assert last - first == 10
        assert stats.chisquare(np.bincount((frames - first).astype(int), minlength=11)).pvalue > 1e-3
