"""Whether the tables of README and documentation say what the reports say that they are taken from.

    python measurements/check_docs.py

A table is checked if a line like this stands before it, with an empty line between:

    <!-- checked: who_rated, ml-100k, rated -->

It names the folder of a report in ``docs/results``, a data set and a protocol. Columns are found by the names of
metrics, rows by the label of the model in ``report.csv``. ``; label here: label there`` may follow where they differ,
and ``; report FOLDER: label here / label here`` where some rows are of another report. A cell ``0.534 ± 0.003`` must be
the mean and the standard deviation of the report, rounded to the digits that are shown. Prints how many cells were
compared; ends with 1 if one differs.
"""

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from recbole_dgrm.evaluation.metric_names import metric_label

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
TABLE = re.compile(r"<!-- checked: (.+?) -->\n\n((?:\|.*\n)+)")
REFERENCES = {"random order": "random", "user + item means": "bias", "oracle: the true ratings": "oracle"}
NUMBER = r"[-+]?\d*\.?\d+"
Found = dict[tuple[str, str], tuple[str, str]]


def report(folder: str, dataset: str, protocol: str) -> Found:
    """Mean and standard deviation by model and metric of one cell of a report."""
    with open(ROOT / "docs" / "results" / folder / "report.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["dataset"], row["protocol"]) == (dataset, protocol)]
    return {(row["model"], metric_label(row["metric"])): (row["mean"], row["std"]) for row in rows}


def cells(line: str) -> list[str]:
    """The texts of a table's line without emphasis, code and marks."""
    return [re.sub(r"[`*▲▼†]|</?u>", "", cell).strip() for cell in line.strip().strip("|").split("|")]


def is_rounded(shown: str, exact: str) -> bool:
    """Whether a number is another one, rounded to its digits."""
    digits = len(shown.partition(".")[2])
    return abs(float(shown) - float(exact)) <= 0.5 * 10**-digits + 1e-9


def compared(where: str, text: str) -> Iterator[tuple[bool, str]]:
    """For each cell of the table that the report has: whether it is right, and what is to be said."""
    named, *rest = re.search(r"checked: (.+?) -->", where)[1].split("; ")
    folder, dataset, protocol = (word.strip() for word in named.split(","))
    of_row: dict[str, Found] = {}
    other = dict(REFERENCES)
    for entry in rest:
        key, _, value = entry.partition(": ")
        if key.startswith("report "):
            found = report(key.removeprefix("report ").strip(), dataset, protocol)
            of_row |= dict.fromkeys(map(str.strip, value.split(" / ")), found)
        else:
            other[key] = value
    usual = report(folder, dataset, protocol)
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
            exact = found.get((model, name))
            if not shown or exact is None:
                continue
            yield (
                all(is_rounded(*pair) for pair in zip(shown, exact, strict=False)),
                f"{label}, {name}: {value!r}, and the report has {exact[0]} ± {exact[1]}",
            )


def main() -> int:
    """Compare, and print what differs."""
    n_cells, n_wrong = 0, 0
    for page in PAGES:
        for match in TABLE.finditer(page.read_text(encoding="utf-8")):
            for right, said in compared(match[0], match[2]):
                n_cells += 1
                if not right:
                    n_wrong += 1
                    print(f"{page.relative_to(ROOT)}: {said}", file=sys.stderr)
    print(f"{n_cells} cells compared, {n_wrong} differ")
    return 1 if n_wrong or not n_cells else 0


if __name__ == "__main__":
    sys.exit(main())
