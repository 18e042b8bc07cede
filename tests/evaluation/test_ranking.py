from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_dgrm.evaluation.ranking import RatedLists, RatedProtocol

TAU = 3.0
SECOND = 1 / np.log2(3)  # discount of place 2
EXPECTED = RatedProtocol(TAU)
PROTOCOLS = [
    RatedProtocol(TAU, ties, filter, denominator)
    for ties, filter, denominator in product(["expected", "item_order"], ["none", "threshold"], ["n", "relevant"])
]
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.ties}-{p.filter}-{p.denominator}")
repeatable = settings(max_examples=60, deadline=None, derandomize=True)


def recall_and_ndcg(score, rating, n, protocol=EXPECTED, item=None):
    """Of one user; items are numbered in the order given unless ``item`` says otherwise."""
    score, rating = np.asarray(score, float), np.asarray(rating, float)
    item = np.arange(len(score)) if item is None else np.asarray(item)
    lists = RatedLists(np.full(len(score), 8), item, score, rating, protocol)
    return lists.recall(n).item(), lists.ndcg(n).item()


def orders(key, item, ties):
    """Every order of the items in which ``key`` never rises; with item_order only the one by item id."""
    every = permutations(range(len(key)))
    if ties == "expected":
        return [order for order in every if all(key[a] >= key[b] for a, b in pairwise(order))]
    return [order for order in every if all((-key[a], item[a]) < (-key[b], item[b]) for a, b in pairwise(order))]


def brute_force(score, rating, n, protocol=EXPECTED, item=None):
    """Average over every pair of a recommended order and an ideal order, each pair evaluated by counting."""
    item = range(len(score)) if item is None else item
    discount = [1 / np.log2(place + 2) for place in range(n)]
    score_orders, rating_orders = orders(score, item, protocol.ties), orders(rating, item, protocol.ties)
    collected = np.zeros((len(score_orders), len(score)))  # the discount of each item, a row per recommended order
    for row, order in zip(collected, score_orders, strict=True):
        listed = [i for i in order if protocol.filter == "none" or score[i] >= protocol.threshold][:n]
        row[listed] = discount[: len(listed)]
    ideal = np.zeros((len(rating_orders), len(score)))
    for row, order in zip(ideal, rating_orders, strict=True):
        row[[i for i in order if rating[i] >= protocol.threshold][:n]] = 1
    relevant = sum(r >= protocol.threshold for r in rating)
    length = n if protocol.denominator == "n" else min(n, relevant)
    if length == 0:
        return 0.0, 0.0
    hits = (collected > 0) @ ideal.T
    return hits.mean() / length, (collected @ ideal.T).mean() / sum(discount[:length])


@st.composite
def one_user(draw):
    n_items = draw(st.integers(1, 6))
    values = st.lists(st.integers(1, 5), min_size=n_items, max_size=n_items)
    item = draw(st.permutations(range(10, 10 + n_items)))
    return draw(values), draw(values), draw(st.integers(1, 6)), item


@st.composite
def many_users(draw):
    n = draw(st.integers(1, 40))
    pair = st.tuples(st.integers(0, 6), st.integers(0, 20))
    pairs = draw(st.lists(pair, min_size=n, max_size=n, unique=True))
    values = st.lists(st.integers(1, 5), min_size=n, max_size=n)
    user, item = np.array(pairs).T
    return user, item, np.array(draw(values), float), np.array(draw(values), float)


def both(user, item, score, rating, protocol, n=3):
    lists = RatedLists(user, item, score, rating, protocol)
    return lists.users, lists.recall(n), lists.ndcg(n)


WHOLE = sum(1 / np.log2(place + 1) for place in range(1, 6))  # discounts of five places
ITEM_ORDER = RatedProtocol(TAU, ties="item_order")
FILTERED = RatedProtocol(TAU, filter="threshold")
RELEVANT = RatedProtocol(TAU, denominator="relevant")
ITEMS = [7, 3, 5]
BY_HAND = {
    "no ties": ([9, 1, 8, 7], [5, 4, 3, 2], 2, EXPECTED, 1 / 2, 1 / (1 + SECOND)),
    # item 0 leads; items 1 (ideal) and 2 (not) share place 2
    "tied scores": ([9, 5, 5, 1], [5, 4, 2, 1], 2, EXPECTED, 3 / 4, (1 + SECOND / 2) / (1 + SECOND)),
    "ratings tied at the cut": ([4, 3, 2, 1], [5, 4, 4, 4], 2, EXPECTED, 2 / 3, (1 + SECOND / 3) / (1 + SECOND)),
    # each of 4 items is ideal half the time, and in each place a quarter of the time
    "all tied": ([1, 1, 1, 1], [5, 5, 5, 5], 2, EXPECTED, 1 / 2, 1 / 2),
    "fewer relevant items than places": ([3, 2, 1], [5, 2, 1], 2, EXPECTED, 1 / 2, 1 / (1 + SECOND)),
    "fewer items than places": ([2, 1], [5, 3], 5, EXPECTED, 2 / 5, (1 + SECOND) / WHOLE),
    "rated at the threshold": ([1], [3], 1, EXPECTED, 1, 1),
    "rated below it": ([1], [2.5], 1, EXPECTED, 0, 0),
    "tied items in expectation": ([1, 1, 1], [5, 5, 5], 1, EXPECTED, 1 / 3, 1 / 3),
    # items 7, 3 and 5: the lower id gets the ideal and the recommended place
    "tied items by their ids": ([1, 1, 1], [5, 5, 5], 1, ITEM_ORDER, 1, 1),
    "another score than the ids": ([1, 1, 2], [5, 5, 5], 1, ITEM_ORDER, 0, 0),
    "relevant, not in the ideal list": ([1, 2], [5, 4], 1, EXPECTED, 0, 0),
    "predicted below the threshold": ([4.0, 2.9, 2.0], [5, 4, 2], 2, FILTERED, 1 / 2, 1 / (1 + SECOND)),
    "the same without a filter": ([4.0, 2.9, 2.0], [5, 4, 2], 2, EXPECTED, 1, 1),
    "predicted at the threshold": ([3.0], [5], 1, FILTERED, 1, 1),
    "two relevant items": ([1, 3, 2], [5, 4, 1], 2, RELEVANT, 1 / 2, 1 / (1 + SECOND)),
    "one relevant item": ([2, 3, 1], [5, 2, 1], 2, RELEVANT, 1, SECOND),
    "the oracle guesses too": ([5, 4, 4, 4], [5, 4, 4, 4], 2, RELEVANT, 2 / 3, (1 + SECOND / 3) / (1 + SECOND)),
}


@pytest.mark.parametrize(("score", "rating", "n", "protocol", "recall", "ndcg"), BY_HAND.values(), ids=BY_HAND)
def test_examples_by_hand(score, rating, n, protocol, recall, ndcg):
    items = ITEMS if protocol is ITEM_ORDER else None
    assert recall_and_ndcg(score, rating, n, protocol, items) == pytest.approx((recall, ndcg))


@every_protocol
@settings(repeatable, max_examples=25)
@given(one_user())
def test_eqs_23_to_25_equal_the_average_over_all_orders(protocol, drawn):
    score, rating, n, item = drawn
    expected = brute_force(score, rating, n, protocol, item)
    assert recall_and_ndcg(score, rating, n, protocol, item) == pytest.approx(expected)


@repeatable
@given(many_users(), st.sampled_from(PROTOCOLS), st.randoms(use_true_random=False))
def test_each_user_gets_the_value_it_has_alone_in_whatever_order_the_rows_are(drawn, protocol, random):
    user, item, score, rating = drawn
    users, *values = both(*drawn, protocol)
    assert users.tolist() == sorted(set(user.tolist()))
    for index, one in enumerate(users):
        own = user == one
        alone = recall_and_ndcg(score[own], rating[own], 3, protocol, item[own])
        assert [value[index] for value in values] == pytest.approx(alone)
    shuffled = list(range(len(user)))
    random.shuffle(shuffled)
    for value, same in zip(values, both(*(column[shuffled] for column in drawn), protocol)[1:], strict=True):
        np.testing.assert_allclose(same, value, atol=1e-12)
    if protocol.filter == "none":
        for transformed in (np.exp(score), 1000 * score - 7, -1 / score):  # only the order matters
            found = both(user, item, transformed, rating, protocol)[1:]
            np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("rating", [[5, 1, 1], [5, 4, 1], [5, 5, 1], [5, 4, 3], [3, 3, 3], [1, 4, 2]])
@pytest.mark.parametrize("filter", ["none", "threshold"])
def test_eq_23_perfect_predictions_reach_1_for_every_user_with_relevant_items(rating, filter):
    protocol = RatedProtocol(TAU, filter=filter, denominator="relevant")
    assert recall_and_ndcg(rating, rating, 3, protocol) == pytest.approx((1, 1))
