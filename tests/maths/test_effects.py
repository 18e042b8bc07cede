import numpy as np

from recbole_dgrm.maths.effects import SESSION, Effects, Moments


def test_deviations_have_the_moments_of_their_conditional():
    rng, group = np.random.default_rng(0), np.array([0, 1, 1, 2, 2, 2])
    target, effects = np.array([1.0, -1, 2, 0, 3, 3]), Effects(group)
    effects.strength.fill_(0.5)
    drawn = []
    for _ in range(4000):
        effects.redraw(target, 2.0, rng)
        drawn.append(effects.value.numpy().copy())
        effects.strength.fill_(0.5)
    precision = 2.0 * np.array([1, 2, 3]) + 0.5
    mean = 2.0 * np.array([1.0, 1, 6]) / precision
    np.testing.assert_allclose(np.mean(drawn, 0), mean, atol=4.5 * np.std(drawn, 0).max() / 4000**0.5)
    np.testing.assert_allclose(np.var(drawn, 0), 1 / precision, rtol=0.1)
    np.testing.assert_allclose(effects.of_ratings(), effects.value[group], rtol=1e-6)


def test_ratings_of_a_user_within_minutes_are_a_session_and_those_of_an_item_nearby_a_period():
    user, item = np.array([1, 1, 1, 2]), np.array([5, 6, 5, 5])
    time = np.array([0.0, SESSION - 1, SESSION, 0])
    sessions, periods = Moments(user, item, time).groups
    assert sessions[0] == sessions[1]
    assert len(set(sessions)) == 3
    assert periods[0] == periods[3]
    assert len(set(periods)) == 3


def test_a_session_that_training_has_not_seen_is_unknown():
    moments = Moments(np.array([1, 2]), np.array([5, 6]), np.array([0.0, 5 * SESSION]))
    (known, place), (in_period, _) = moments.find(
        np.array([1, 1, 9]), np.array([6, 5, 5]), np.array([60.0, SESSION, 0])
    )
    assert known.tolist() == [True, False, False]
    assert moments.groups[0][0] == place[0]
    assert in_period.tolist() == [False, False, True]


def test_the_future_is_the_last_period_of_training():
    time = np.arange(300.0) * SESSION
    moments = Moments(np.zeros(300, int), np.zeros(300, int) + np.array([5, 6])[np.arange(300) % 2], time)
    (session, _), (period, place) = moments.find(np.array([0, 0]), np.array([5, 7]), np.full(2, time[-1] + 1e9))
    assert not session.any()
    assert period.tolist() == [True, False]
    assert place[0] == moments.groups[1][298]
