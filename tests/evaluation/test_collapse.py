"""What is called collapsed, on constructed predictions."""

import numpy as np
import pytest
import torch

from recbole_dgrm.evaluation.collapse import COLLAPSED, INTACT, NARROW, UNKNOWN, Finding, conclude, judge, worst
from recbole_dgrm.evaluation.distribution import Bins, Sample

STARS = Bins((1, 2, 3, 4, 5))
GIVEN = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [61, 114, 271, 342, 212])  # ML-100K's shares, in thousandths
RNG = np.random.default_rng(0)


def sample(values) -> Sample:
    return Sample.of(STARS, torch.as_tensor(np.asarray(values, dtype=np.float32)))


NEAR_THE_ENDS = np.r_[RNG.uniform(-0.4, 0.6, 500), RNG.uniform(4.6, 5.4, 500)]
PREDICTIONS = {
    "copy": (GIVEN, INTACT, "every level"),
    "constant": (np.full(1000, 3.5), COLLAPSED, "hardly differ"),
    "constant below the scale": (np.full(1000, -7.0), COLLAPSED, "hardly differ"),
    "nearly constant": (RNG.normal(3.5, 0.05, 1000), COLLAPSED, "hardly differ"),
    "two ends": (np.repeat([1.0, 5.0], 500), COLLAPSED, "2.0 distinct values"),
    "two points inside": (np.repeat([3.0, 4.0], 500), COLLAPSED, "2.0 distinct values"),
    "near the ends": (NEAR_THE_ENDS, COLLAPSED, "ends of the scale"),
    "above the scale": (RNG.uniform(5, 6, 1000), COLLAPSED, "ends of the scale"),
    "uniform levels": (np.repeat(np.arange(1.0, 6.0), 200), INTACT, "every level"),
    "uniform": (RNG.uniform(0.5, 5.5, 1000), INTACT, "every level"),
    "lowest mode lost": (GIVEN[GIVEN != 1], NARROW, "hardly any prediction is 1 "),
    "top mode lost": (GIVEN[GIVEN != 4], NARROW, "hardly any prediction is 4 "),
    "a shrunken mean": (RNG.normal(3.5, 0.4, 1000), NARROW, "hardly any prediction is 1 or 2 or 5 "),
}


@pytest.mark.parametrize(("predictions", "status", "words"), PREDICTIONS.values(), ids=PREDICTIONS)
def test_constructed_predictions(predictions, status, words):
    finding = judge(sample(predictions), sample(GIVEN))
    assert finding.status == status
    assert words in finding.reason


def test_ratings_that_lie_at_the_ends_themselves_are_no_collapse():
    given = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [200, 50, 50, 100, 600])
    assert judge(sample(given), sample(given)).status == INTACT
    assert judge(sample(np.repeat([1.0, 3.0, 4.0, 5.0], [230, 20, 40, 710])), sample(given)).status == COLLAPSED


def test_two_levels_are_all_ends():
    thumbs = Bins((0, 1))
    given = Sample.of(thumbs, torch.tensor([0.0, 1.0, 1.0]))
    assert judge(Sample.of(thumbs, torch.tensor([0.1, 0.3, 0.7, 0.9, 0.8])), given).status == INTACT


def test_the_same_for_every_user_is_a_collapse_whatever_the_distribution():
    assert judge(sample(GIVEN), sample(GIVEN), between_users=0.2).status == INTACT
    finding = judge(sample(GIVEN), sample(GIVEN), between_users=0.002)
    assert finding == Finding(COLLAPSED, "0.2% of the variance is between users: everybody gets the same")


def test_the_worst_counts_and_says_what_it_is_about():
    found = {"test": Finding(INTACT, "a"), "unrated": Finding(COLLAPSED, "b"), "rated": Finding(NARROW, "c")}
    assert worst(found) == Finding(COLLAPSED, "unrated pairs: b")
    assert worst({}).status == UNKNOWN


def history(statuses: str, step: int = 5) -> dict[int, Finding]:
    """``c`` collapsed, ``i`` intact, one letter a look."""
    words = {"c": COLLAPSED, "i": INTACT, "n": NARROW}
    return {step * (index + 1): Finding(words[letter], letter) for index, letter in enumerate(statuses)}


@pytest.mark.parametrize(
    ("statuses", "since", "passing"),
    [
        ("iiii", None, ()),
        ("iicc", 15, ()),
        ("cccc", 5, ()),
        ("ccii", None, ()),  # before the network has learnt anything
        ("icin", None, (10,)),
        ("cicc", 15, ()),
        ("icicc", 20, (10,)),
        ("c", 5, ()),
        ("", None, ()),
    ],
)
def test_a_collapse_begins_where_the_last_run_of_collapsed_looks_begins(statuses, since, passing):
    found = conclude(Finding(INTACT, ""), {"rated": history(statuses)}, 3)
    assert (found.since, found.passing) == (since, passing)


def test_each_group_has_a_history_of_its_own():
    training = {"validation": history("iiiiiiiii", 1), "unrated": history("iccc", 2)}
    found = conclude(Finding(NARROW, "narrow it is"), training, 3)
    assert found.since == 4
    assert "unrated" in found.training
    assert found.line == (
        "none, but narrow: narrow it is; training is collapsed from epoch 4 on (unrated pairs: c), tested epoch: 3"
    )


def test_lines():
    assert conclude(Finding(INTACT, "fine"), {}).line == "none: fine"
    assert conclude(Finding(COLLAPSED, "bad"), {"rated": history("ic")}, 12).line == (
        "COLLAPSED: bad; training is collapsed from epoch 10 on"
    )
    assert conclude(Finding(INTACT, "fine"), {"rated": history("icii")}, 12).line == (
        "none: fine; collapsed for a while at epoch 10"
    )
