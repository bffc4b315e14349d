import pytest

from policies.pareto import pareto_front


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], set()),
        ([(0.5, 1, 1)], {0}),
        # Better in one dimension, equal in the others.
        ([(0.5, 1, 1), (0.6, 1, 1)], {1}),
        ([(0.5, 1, 1), (0.5, 2, 1)], {0}),
        ([(0.5, 1, 2), (0.5, 1, 1)], {1}),
        # Each better in something.
        ([(0.9, 3, 3), (0.5, 1, 3), (0.5, 3, 1)], {0, 1, 2}),
        # Exact ties all stay, or all go.
        ([(0.5, 1, 1), (0.5, 1, 1)], {0, 1}),
        ([(0.5, 1, 1), (0.5, 1, 1), (0.6, 1, 1)], {2}),
        # A step is replaced by a better one of the same cost, and hides those behind it.
        ([(0.9, 2, 5), (0.8, 2, 4), (0.7, 2, 4)], {0, 1}),
        ([(0.9, 1, 9), (0.9, 2, 8), (0.8, 1, 7), (0.7, 2, 7.5)], {0, 1, 2}),
        # One that is dominated hides nobody after it; the nearest step is asked, not another.
        ([(0.9, 1, 1), (0.8, 2, 2), (0.7, 0.5, 3)], {0, 2}),
        ([(0.9, 1, 5), (0.9, 3, 2), (0.8, 4, 3)], {0, 1}),
        ([(0.9, 2, 5), (0.9, 3, 4), (0.9, 4, 3), (0.8, 1, 3), (0.7, 4, 3)], {0, 1, 2, 3}),
        # What is unknown proves nothing, so it is compared only with what is as unknown.
        ([(0.9, None, 1), (0.5, 1, 1)], {0, 1}),
        ([(0.9, None, 1), (0.5, None, 1), (0.5, None, 0.5)], {0, 2}),
        ([(0.9, None, None), (0.8, 1, None), (0.7, None, 1), (0.6, 1, 1)], {0, 1, 2, 3}),
    ],
)
def test_front(candidate, points, front):
    pool = [
        candidate(f"m{i}", quality=quality, cost_usd=cost, latency_ms=latency)
        for i, (quality, cost, latency) in enumerate(points)
    ]
    assert pareto_front(pool) == front
