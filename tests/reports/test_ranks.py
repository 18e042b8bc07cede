"""Mean ranks over data sets: against scipy, and what is said of few of them."""

import numpy as np
import pytest
from reports_helpers import NDCG, RATED, put, write_plan
from scipy import stats

from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.reports.ranks import Ranks, over_datasets, sentence
from recbole_dgrm.reports.statistics import summarise


def ranks_of(values, metric: str = NDCG, left_out=()) -> Ranks:
    values = np.array(values, dtype=float)
    names = [f"set {number}" for number in range(len(values))], [f"m{number}" for number in range(values.shape[1])]
    return Ranks("rated", metric, *names, values, list(left_out))


def steps(n: int, *means: float, noise: float = 0.01) -> np.ndarray:
    """Values of ``n`` data sets around the means of models."""
    return np.array(means) + noise * np.random.default_rng(3).random((n, len(means)))


def test_the_best_has_rank_1_and_equals_share():
    assert ranks_of([[0.5, 0.4, 0.4], [0.6, 0.6, 0.1]]).mean.tolist() == [1.25, 2.0, 2.75]
    assert ranks_of([[0.5, 0.4, 0.3]], "rmse").mean.tolist() == [3.0, 2.0, 1.0]


def test_two_models_differ_where_wilcoxon_after_holm_says_so():
    values = steps(9, 0.5, 0.49, 0.3)
    ranks = ranks_of(values)
    raw = {pair: stats.wilcoxon(values[:, pair[0]] - values[:, pair[1]]).pvalue for pair in ((0, 1), (0, 2), (1, 2))}
    corrected = dict(zip(sorted(raw, key=raw.get), np.sort(list(raw.values())) * (3, 2, 1), strict=True))
    for (one, other), p in corrected.items():
        assert ranks.different()[one, other] == ranks.different()[other, one] == (p < 0.05)
    assert ranks.friedman() == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)


def test_cliques_are_the_longest_rows_of_neighbours_that_no_test_tells_apart():
    assert ranks_of(steps(10, 0.5, 0.5, 0.3, 0.3)).cliques() == [(0, 1), (2, 3)]
    assert ranks_of(steps(10, 0.5, 0.5, 0.5)).cliques() == [(0, 2)]
    assert ranks_of(steps(10, 0.5, 0.3, 0.1)).cliques() == []
    assert ranks_of([[0.5, 0.5]] * 6).cliques() == [(0, 1)]


@pytest.mark.parametrize(("n", "models", "enough"), [(5, 2, False), (6, 2, True), (7, 3, True), (6, 3, False)])
def test_what_few_data_sets_cannot_tell_is_said(n, models, enough):
    ranks = ranks_of(steps(n, *np.linspace(0.9, 0.1, models)))
    assert ranks.can_differ() == ranks.different().any() == enough
    assert ("too few" in sentence(ranks)) != enough
    assert ("it differs from m1" in sentence(ranks)) == enough


def fill(folder, datasets: int, lacking: str = "") -> None:
    for number in range(datasets):
        for label, value in (("A", 0.3), ("B", 0.5), ("C", 0.1)):
            if number == 0 and label == lacking:
                continue
            for seed in (1, 2):
                config = {**RATED, "dataset": f"set{number}"}
                vectors = {NDCG: np.full(9, value + 0.001 * (number + seed))}
                put(folder, label, seed, vectors=vectors, config=config, data={"fingerprint": f"{number} {seed}"})
    write_plan(folder, baseline="A")


def test_a_report_of_enough_data_sets_ranks_its_models(tmp_path):
    fill(tmp_path, 7)
    write_report(tmp_path, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.index("## Over all data sets") < text.index("## set0, rated")
    assert "B has the best mean rank, 1.00 of 3" in text
    assert "it differs from A, C" in text
    assert "![Mean ranks, rated](figures/ranks-rated.png)" in text
    assert (tmp_path / "figures" / "ranks-rated.svg").is_file()


def test_four_data_sets_are_not_ranked_and_splits_are_no_data_sets(tmp_path):
    fill(tmp_path, 4)
    assert not list(over_datasets(summarise(tmp_path).cells))


def test_a_data_set_counts_once_with_its_mean_over_splits(tmp_path):
    fill(tmp_path, 5)
    (ranks,) = over_datasets(summarise(tmp_path).cells)
    assert ranks.models == ["B", "A", "C"]
    assert ranks.values.shape == (5, 3)
    assert ranks.values[0] == pytest.approx([0.5015, 0.3015, 0.1015])


def test_a_model_that_a_data_set_lacks_is_left_out_and_named(tmp_path):
    fill(tmp_path, 5, lacking="C")
    (ranks,) = over_datasets(summarise(tmp_path).cells)
    assert ranks.models == ["B", "A"]
    assert "not on all data sets, and left out: C." in sentence(ranks)
