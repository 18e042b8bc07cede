"""Fill in the tables of README.md and docs/worth.md that are made of several tables of reports: ``make tables``.

A table is found by its header row, and the first cell of every other row is the label of the row in the reports. Their
tables are marked by comments like ``<!-- --8<-- [start:ml-100k-rated] -->``.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "worth.md")
README = "| RatedNDCG@5 ↑ | RMSE ↓ |"  # the end of the header row
ACCURACY = "| | ML-100K: RatedNDCG@5 ↑ | RMSE ↓ | ML-1M: RatedNDCG@5 ↑ | RMSE ↓ |"
PUBLISHED = "| published / ours | ML-100K: Recall@5 ↑ | NDCG@5 ↑ | ML-1M: Recall@5 ↑ | NDCG@5 ↑ |"
DENSITY = "| training ratings | % of all pairs |"  # the beginning of the header row; then comes a column for each model
BY_HAND = "| a constant prediction |"  # the beginning of a row that no report has


def cells(line: str) -> list[str]:
    """The cells of a row without emphasis and the marks that only a report explains."""
    return [re.sub(r"\*\*|</?u>|`|†|(?<=×).*", "", cell).strip() for cell in line.strip("|").split("|")]


def table(report: str, name: str) -> dict[str, dict[str, str]]:
    """A table of a report: its cells by row and column."""
    text = (ROOT / "docs" / "results" / report / "report.md").read_text(encoding="utf-8")
    lines = re.search(rf"\[start:{name}\] -->\n\n((?:\|.*\n)+)", text)[1].splitlines()
    _, *columns = cells(lines[0])
    rows = map(cells, lines[2:])
    return {label.removesuffix(": the true ratings"): dict(zip(columns, row, strict=True)) for label, *row in rows}


def accuracy(label: str, *datasets: str, report: str = "paper_table3") -> list[str]:
    """Scores by data set; empty where a model was not run."""
    rows = [table(report, f"{dataset}-rated").get(label, {}) for dataset in datasets]
    return [row.get(metric, "") for row in rows for metric in ("RatedNDCG@5 ↑", "RMSE ↓")]


def published(label: str) -> list[str]:
    """Scores in the paper and ours, on the authors' splits."""
    row = []
    for name in ("ml-100k-authors-table3", "ml-1m-authors-table3"):
        theirs, ours = (table("paper_table3", part + name).get(label, {}) for part in ("published-", ""))
        for metric in ("RatedRecall@5", "RatedNDCG@5"):
            score = ours.get(f"{metric} ↑", "").split(" ±")[0]
            row.append(f"{theirs.get(f'{metric} published', '–')} / {score}" if score else "")
    return row


def densities(data: str, percent: str, models: list[str]) -> list[str]:
    """RMSE against that of user + item means, on the part of a data set with this percentage of all pairs."""
    row: dict[str, str] = {}
    for report in ("residuals", "sparse-more", "sparse"):  # the last that has a cell counts
        for model, gaps in table(report, "density-rated-rmse").items():
            for column, gap in gaps.items():
                if re.fullmatch(rf"{data}( \(.+\))?, {percent} %", column) and gap != "–":
                    row[model] = gap
    return [row.get(model, "") for model in models]


def filled(text: str) -> str:
    """A page with the cells of its tables written anew."""
    header, lines = "", []
    for line in text.splitlines():
        label, *rest = cells(line)
        if line in (ACCURACY, PUBLISHED) or line.startswith(DENSITY) or line.endswith(README):
            header, models = line, rest[1:]
        elif not line.startswith("|"):
            header = ""
        elif header and not line.startswith(("|---", BY_HAND)):
            if header == ACCURACY:
                row = accuracy(label, "ml-100k", "ml-1m")
            elif header == PUBLISHED:
                row = published(label)
            elif header.startswith(DENSITY):
                row = densities(label.split(",")[0], rest[0], models)
            else:
                newest = accuracy(label, "ml-100k", report="dgrm")
                row = [score.rstrip(" ▲▼") for score in (newest if any(newest) else accuracy(label, "ml-100k"))]
            if not any(row):
                raise SystemExit(f"docs/tables.py: no report has {label}")
            kept = line.split("|")[1 : header.count("|") - len(row)]
            line = f"|{'|'.join(kept)}| {' | '.join(row)} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
