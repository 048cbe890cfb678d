import numpy as np
import pytest
from scipy import stats

from vdet_ssl.data import clips as sampling


def draws(n, *, num_clips, duration_s=10.0, span_s=2.0, t_max_s=-1.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            sampling.draw_start_times(rng, num_clips=num_clips, duration_s=duration_s, span_s=span_s, t_max_s=t_max_s)
            for _ in range(n)
        ]
    )


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


@pytest.mark.parametrize("duration_s", [0.0, 0.5, 2.0])
def test_a_video_no_longer_than_the_span_starts_at_zero(duration_s):
    assert (draws(50, num_clips=3, duration_s=duration_s) == 0).all()


def test_draws_follow_from_the_generator_alone():
    np.testing.assert_array_equal(draws(5, num_clips=3, seed=7), draws(5, num_clips=3, seed=7))
    assert (draws(5, num_clips=3, seed=7) != draws(5, num_clips=3, seed=8)).all()


def test_frame_times():
    eight = {"num_frames": 8, "sampling_rate": 8, "frame_rate": 30.0}
    np.testing.assert_allclose(sampling.frame_times(2.0, spacing="stride", **eight), [2 + 8 * i / 30 for i in range(8)])
    np.testing.assert_allclose(
        sampling.frame_times(2.0, spacing="linspace", **eight), [2 + 9 * i / 30 for i in range(8)]
    )
    np.testing.assert_allclose(
        sampling.frame_times(2.0, spacing="stride", speed=1.5, **eight), [2 + 12 * i / 30 for i in range(8)]
    )
    assert sampling.clip_span_s(**eight) == pytest.approx(64 / 30)
    with pytest.raises(ValueError, match="FRAME_SPACING"):
        sampling.frame_times(2.0, spacing="random", **eight)


def test_speeds_cover_the_jitter_range_uniformly():
    speeds = np.concatenate(
        [sampling.draw_speeds(np.random.default_rng(i), num_clips=4, jitter=0.5) for i in range(1000)]
    )
    assert stats.kstest(speeds, "uniform", (0.5, 1.0)).pvalue > 1e-3
    assert (sampling.draw_speeds(np.random.default_rng(0), num_clips=4, jitter=0.0) == 1).all()


@pytest.mark.parametrize("num_frames, sampling_rate", [(8, 8), (4, 16), (32, 2), (1, 1), (5, 3)])
def test_centred_clip_shows_the_frames_that_pyslowfast_takes(num_frames, sampling_rate):
    key_frame, half = 902 * 30, num_frames * sampling_rate // 2
    expected = [key_frame - half + i * sampling_rate for i in range(num_frames)]
    times = sampling.centered_frame_times(902.0, num_frames=num_frames, sampling_rate=sampling_rate, frame_rate=30.0)
    np.testing.assert_allclose(times * 30, expected)
    if num_frames % 2 == 0:
        assert times[num_frames // 2] == 902.0


def test_centred_start():
    assert sampling.centered_start_s(duration_s=10.0, span_s=2.0) == 4.0
    assert sampling.centered_start_s(duration_s=1.0, span_s=2.0) == 0.0
