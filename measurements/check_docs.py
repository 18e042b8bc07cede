"""Whether README and documentation say what the reports say that their numbers are taken from.

    python measurements/check_docs.py

A table is checked if a line like one of these stands before it, with an empty line between:

    <!-- checked: who_rated, ml-100k, rated -->
    <!-- checked: paper_table3, ml-100k-authors, table3; MF (ours): MF -->
    <!-- density: sparse + sparse-more, rmse; a quarter: ml-100k 0.05 -->
    <!-- collapse: collapse/ml-100k; KL: distances value distance=kl; distinct lists: lists distinct % -->

The first word is a folder of ``docs/results``. *checked* names the data set and the protocol in its ``report.csv``; a
data set of which a part was left out is called ``ml-100k 0.05``, after its ``known_share``. Columns are found by the
names of metrics (``RMSE ↓, published`` is the published one), rows by the label of the model; ``label here: label
there`` may follow where they differ, and ``report FOLDER: label / label`` where rows are of another report. *density*
names a question of ``densities.csv``; its columns are data sets, and of several folders a cell is of the first that
has it. *collapse* has for each column a file and a column of
``csv/``, ``%`` for shares. A cell ``0.534 ± 0.003`` must be the mean and the standard deviation of the report, rounded
to the digits that are shown; an empty one is not compared.

On the pages of ``WATCHED`` every other table and every number in the text with a point must be said to come from
elsewhere, by ``<!-- by hand: what it is from -->`` somewhere in its section. A number in the text is checked by a
comment that follows it: ``.546<!-- paper_table3, ml-100k, rated, DGRM, RatedNDCG@5 -->``.

All reports must have been made with one commit of the code. Prints how many numbers were compared; ends with 1 if one
differs.
"""

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from recbole_dgrm.evaluation.metric_names import metric_label

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
WATCHED = ("README.md", "docs/results/README.md", "docs/results/collapse.md", "docs/worth.md")
TABLE = re.compile(r"<!-- (checked|density|collapse): (.+?) -->\n\n((?:\|.*\n)+)")
NOTE = re.compile(r"(\S+?)<!-- ([^:]+?) -->")
BY_HAND = re.compile(r"<!-- by hand: .+? -->")
CODE_AND_LINKS = r"(?s)```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)"
QUIET = re.compile(CODE_AND_LINKS + r"|(?:version )?\d+(?:\.\d+){2,}|version \d\.\d")  # no numbers of results
REFERENCES = {"random order": "random", "user + item means": "bias", "oracle: the true ratings": "oracle"}
NUMBER = r"[-+−]?\d*\.?\d+"
WITH_POINT = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.]*\d)")
MEAN_AND_STD = tuple[str, str]
Said = Iterator[tuple[bool, str]]  # whether a number is right, and what is to be said if it is not


@cache
def rows_of(path: str) -> list[dict[str, str]]:
    """The lines of a CSV file below ``docs/results``."""
    with open(RESULTS / path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def place(row: Mapping[str, str], said: str) -> str:
    """The data set of a line, with its ``known_share`` behind it (``ml-100k 0.05``) if the column ``said`` has one."""
    kept = re.search(r"known_share=([\d.]+)", row.get(said) or "")
    share = float(kept[1]) if kept else 1
    return row["dataset"] + (f" {share:g}" if share != 1 else "")


def report(folder: str, dataset: str, protocol: str) -> dict[tuple[str, str], MEAN_AND_STD]:
    """Mean and standard deviation by model and metric of one cell of a report; published numbers have no deviation."""
    found = {}
    for row in rows_of(f"{folder}/report.csv"):
        if (place(row, "definition"), row["protocol"]) == (dataset, protocol):
            label = metric_label(row["metric"])
            found[row["model"], label] = (row["mean"], row["std"])
            found[row["model"], f"{label}, published"] = (row["published"], "")
    return found


def density(folders: str, question: str) -> dict[tuple[str, str], MEAN_AND_STD]:
    """Mean and standard deviation by model and data set (``ml-100k 0.05``) of a question about densities."""
    found = {}
    for folder in reversed(folders.split(" + ")):
        rows = [row for row in rows_of(f"{folder}/densities.csv") if row["question"] == question]
        found |= {(row["model"], place(row, "apart")): (row["mean"], row["std"]) for row in rows}
    return found


def collapse(folder: str, columns: Mapping[str, str]) -> dict[tuple[str, str], MEAN_AND_STD]:
    """Values by model and column of the CSV files of a diagnosis."""
    found = {}
    for column, source in columns.items():
        file, name, *rest = source.split()
        of_percent = 100 if "%" in rest else 1
        wanted = dict(word.split("=") for word in rest if "=" in word)
        for row in rows_of(f"{folder}/csv/{file}.csv"):
            if all(row[key] == value for key, value in wanted.items()):
                found[row["model"], column] = (str(of_percent * float(row[name])), "")
    return found


def cells(line: str) -> list[str]:
    """The texts of a table's line without emphasis, code and marks."""
    return [re.sub(r"[`*▲▼†]|</?u>|×.*", "", cell).strip() for cell in line.strip().strip("|").split("|")]


def is_rounded(shown: str, exact: str) -> bool:
    """Whether a number is another one, rounded to its digits."""
    digits = len(shown.partition(".")[2])
    return bool(exact) and abs(float(shown.replace("−", "-")) - float(exact)) <= 0.5 * 10**-digits + 1e-9


def compared(kind: str, where: str, text: str) -> Said:
    """For each cell of a table that its report has."""
    named, *rest = where.split("; ")
    given = dict(entry.split(": ", 1) for entry in rest)
    folder, *cell = (word.strip() for word in named.split(","))
    others = {key.removeprefix("report "): value for key, value in given.items() if key.startswith("report ")}
    other = {**REFERENCES, **given}
    if kind == "checked":
        usual = report(folder, *cell)
        of_row = {label: report(one, *cell) for one, labels in others.items() for label in labels.split(" / ")}
    else:
        usual = density(folder, *cell) if kind == "density" else collapse(folder, given)
        of_row = {}
    head, _, *lines = text.splitlines()
    for line in lines:
        label, *values = cells(line)
        found = of_row.get(label, usual)
        model = other.get(label, label)
        if not any(key[0] == model for key in found):
            yield False, f"{label!r} is no row of {folder}"
            continue
        for name, value in zip(cells(head)[1:], values, strict=True):
            shown = re.findall(NUMBER, value)
            exact = found.get((model, name)) or found.get((model, other.get(name, name)))
            if not shown:
                continue
            if exact is None:
                if kind != "checked":
                    yield False, f"{folder} has nothing for {label}, {name}"
                continue
            right = all(is_rounded(*pair) for pair in zip(shown, exact, strict=False))
            yield right, f"{label}, {name}: {value!r}, and the report has {exact[0]} ± {exact[1]}"


def noted(number: str, where: str) -> Said:
    """For a number in the text that says where it is from."""
    folder, dataset, protocol, *label, metric = (word.strip() for word in where.split(","))
    model = ", ".join(label)  # which may have commas
    shown = re.findall(NUMBER, number)
    found = {key: value for key, value in report(folder, dataset, protocol).items() if key[1].startswith(f"{metric} ")}
    exact = found.get((REFERENCES.get(model, model), next(iter(found), ("", ""))[1]))
    right = bool(shown) and exact is not None and is_rounded(shown[-1], exact[0])
    yield right, f"{number} is to be {model}, {metric} of {folder}, which has {exact and exact[0]}"


def unsaid(text: str) -> Iterator[str]:
    """Numbers and tables of a page that are neither compared nor said to be from elsewhere."""
    for section in re.split(r"(?m)^(?=#+ )", re.sub(r"(?s)```.*?```", "", text)):
        if BY_HAND.search(section):
            continue
        rest = NOTE.sub("", TABLE.sub("", section))
        words = QUIET.sub("", rest)
        title = section.splitlines()[0] if section else ""
        for found in WITH_POINT.findall(words):
            yield f"{title!r}: {found} is compared with no report"


def commits() -> Said:
    """Whether all reports were made with one commit of the code."""
    found: dict[str, set[str]] = {}
    for path in (path for name in ("report.csv", "diagnosis.md") for path in sorted(RESULTS.rglob(name))):
        folder = path.parent.relative_to(RESULTS).as_posix()
        if path.suffix == ".csv":
            named = {word for row in rows_of(f"{folder}/{path.name}") for word in (row.get("commit") or "").split()}
        else:
            named = set(re.findall(r"commit (\w+\+?)", path.read_text(encoding="utf-8")))
        for commit in named or {"none"}:
            found.setdefault(commit, set()).add(folder)
    yield len(found) <= 1, f"reports of several commits: {found}"


def main() -> int:
    """Compare, and print what differs."""
    said = [("docs/results", *pair) for pair in commits()]
    for page in PAGES:
        name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
        for kind, where, table in TABLE.findall(text):
            said += [(name, *pair) for pair in compared(kind, where, table)]
        for number, where in NOTE.findall(text):
            said += [(name, *pair) for pair in noted(number, where)]
        if name in WATCHED:
            said += [(name, False, words) for words in unsaid(text)]
    wrong = [(name, words) for name, right, words in said if not right]
    for name, words in wrong:
        print(f"{name}: {words}", file=sys.stderr)
    print(f"{len(said)} numbers compared, {len(wrong)} differ")
    return 1 if wrong or len(said) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
