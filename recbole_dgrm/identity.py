"""The identity of stored work, which determines its result, and moving work with another identity aside."""

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from recbole_dgrm.options import retired
from recbole_dgrm.system.files import make_folder, plain, write_text, writing
from recbole_dgrm.system.processes import EXIT_S, LOCK, locked_folder

LOG = logging.getLogger(__name__)
RESULTS = 3  # increased by each change of the code that changes the results of a config on the same data
WHERE = ("output_dir", "data_path", "checkpoint_interval")  # keys that do not change results
RECORD, SEARCH = "record.json", "search.json"  # written and moved last: they show that the others are complete
ASIDE, REASON = ".aside", "reason.txt"  # the folder of work that was moved aside; runs in it are not read


def config_hash(given: Mapping[str, Any]) -> str:
    """Hash of all keys that determine a result.

    Retired keys are included with their only value, so that the hashes of runs of 0.2.0 are still valid.
    """
    what = {key: value for key, value in plain({**retired(given.get("model")), **given}).items() if key not in WHERE}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def changed_key(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first key in which two configs differ, without those of ``WHERE``; None if there is none."""
    keys = sorted({*ours, *theirs}.difference(WHERE))
    return next((key for key in keys if ours.get(key) != theirs.get(key)), None)


@dataclass(frozen=True)
class Identity:
    """Everything that determines the result of a run, a benchmark cell or a trial of a search.

    Stored work is only used or continued if its identity is the wanted one: the ``config_hash``, the ``source_hash`` of
    all files of the data set, and ``RESULTS`` of the code.
    """

    config: str
    data: str | None
    code: int = RESULTS

    def difference(self, stored: "Identity") -> str | None:
        """The reason why work of the ``stored`` identity cannot be used for this one; None if it can."""
        if stored.data is not None and self.data != stored.data:
            return f"the files of its data set have changed since (their hash was {stored.data}, it is {self.data} now)"
        if self.code != stored.code:
            return f"it was made by code that gives other results (results version {stored.code}, now {self.code})"
        return None if self.config == stored.config else "it was made with other keys"


def put_aside(path: Path, folder: Path, name: str, reason: str, stays: Collection[str] = ()) -> None:
    """Move the content of ``path``, whose lock the caller holds, into ``folder/.aside/<name>-<number>``.

    The lock and the names in ``stays`` are not moved. The reason is logged and written to ``reason.txt``.
    """
    place = folder / ASIDE / name
    new = next(new for number in count(1) if not (new := place.with_name(f"{place.name}-{number}")).exists())
    make_folder(new)
    with writing(new):
        for each in sorted(path.iterdir(), key=lambda each: each.name in (RECORD, SEARCH)):
            if each.name not in (LOCK, ASIDE, *stays):
                each.rename(new / each.name)
    write_text(new / REASON, f"{path} was moved here, because {reason}.\n")
    LOG.warning("%s was moved to %s, because %s; it is made again", path, new, reason)


def put_aside_unless(path: Path, stored: Identity, folder: Path, identities: Iterable[Identity]) -> bool:
    """Move the run in ``path`` aside if none of some ``identities`` has its data and code; returns whether it was."""
    reasons = [replace(identity, config=stored.config).difference(stored) for identity in identities]
    if not reasons or not all(reasons):
        return False
    with locked_folder(path, "process", "wait for its end", EXIT_S):
        put_aside(path, folder, str(path.relative_to(folder)), str(reasons[0]))
    return True
