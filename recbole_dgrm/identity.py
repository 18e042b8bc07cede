"""What stored work is the result of, and how work that is not the wanted one is put aside."""

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
from recbole_dgrm.system.processes import EXIT_S, LOCK, alone_in

LOG = logging.getLogger(__name__)
RESULTS = 1  # raised when a change of the code changes what a config gives on the same data
WHERE = ("output_dir", "data_path", "checkpoint_interval")  # keys that say where files lie, not what is computed
RECORD, SEARCH = "record.json", "search.json"  # of a run, and of a search: written, and put aside, after other files
ASIDE, REASON = ".aside", "reason.txt"  # a folder of work that was put aside, which no reader of runs looks into


def config_hash(given: Mapping[str, Any]) -> str:
    """Hash of all keys that determine a result, which is the part of ``Identity`` that follows from the config.

    Retired keys count with their only value, so that a run of 0.2.0 is still known.
    """
    what = {key: value for key, value in plain({**retired(given.get("model")), **given}).items() if key not in WHERE}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def changed_key(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first key in which two configs differ, leaving out those that say where files lie; None if there is none."""
    keys = sorted({*ours, *theirs}.difference(WHERE))
    return next((key for key in keys if ours.get(key) != theirs.get(key)), None)


@dataclass(frozen=True)
class Identity:
    """What determines the result of a run, a cell of a benchmark or a trial of a search.

    Stored work is taken, and continued, only where its identity is the one that is wanted.

    Attributes:
        config: see ``config_hash``.
        data: hash of all files of the data set, see ``recbole_dgrm.data.atomic_files.source_hash``.
        code: see ``RESULTS``.
    """

    config: str
    data: str | None
    code: int = RESULTS

    def difference(self, stored: "Identity") -> str | None:
        """Why work of the ``stored`` identity is not this work, in words; None where it is."""
        if stored.data is not None and self.data != stored.data:
            return f"the files of its data set have changed since (their hash was {stored.data}, it is {self.data} now)"
        if self.code != stored.code:
            return f"it was made by code that gives other results (results version {stored.code}, now {self.code})"
        return None if self.config == stored.config else "it was made with other keys"


def put_aside(path: Path, folder: Path, name: str, reason: str, stays: Collection[str] = ()) -> None:
    """Move the content of ``path``, whose lock the caller holds, into ``folder/.aside/<name>-<number>``.

    Args:
        folder: of the benchmark or search.
        reason: why; it is logged, and written to ``reason.txt``.
        stays: names that are left where they are, as the lock is.
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
    """Put a run of ``folder`` aside unless its data and its code are those of one of ``identities``, if there are any.

    Args:
        path: the directory of the run.
        stored: the identity of the run.

    Returns:
        Whether the run was put aside.

    Raises:
        UserError: another process is at work in the run.
    """
    reasons = [replace(identity, config=stored.config).difference(stored) for identity in identities]
    if not reasons or not all(reasons):
        return False
    with alone_in(path, "process", "wait for its end", EXIT_S):
        put_aside(path, folder, str(path.relative_to(folder)), str(reasons[0]))
    return True
