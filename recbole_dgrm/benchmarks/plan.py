"""A benchmark plan: YAML with models, data sets, protocols and seeds, and the runs that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import PositiveFloat, PositiveInt

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import atomic_files
from recbole_dgrm.errors import DataError, OptionError, UserError
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.options import Seed, check_known, read, read_part
from recbole_dgrm.records import Identity, config_hash, short_name
from recbole_dgrm.system.yaml_files import properties_dir

T = TypeVar("T")
DATASET = "{dataset}"  # in the name of a config file; the row stands for the data sets that have such a file


@dataclass(frozen=True)
class ModelEntry:
    """A model as a row of the tables, under all protocols of the plan or only those named."""

    model: str
    label: str
    protocols: list[str] | None
    config: dict
    config_files: list[str]


@dataclass(frozen=True)
class DatasetEntry:
    """A data set; its own seeds and protocols, where it has any, replace those of the plan."""

    dataset: str
    optional: bool
    seeds: list[Seed] | None
    protocols: list[str] | None
    config: dict


@dataclass(frozen=True)
class Published:
    """Published results ``values[dataset][label][metric]``, shown beside ours under these ``protocols``."""

    source: str
    protocols: list[str]
    values: dict


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a plan.

    Attributes:
        config: its merged keys, which have been checked.
        apart: the keys of the plan's entry of the data set, in words.
    """

    label: str
    config: dict[str, Any]
    source: str
    apart: str = ""

    @property
    def cell(self) -> tuple[str, str]:
        """The data set and the protocol: each pair has one table in the report."""
        return self.config["dataset"], self.config["protocol"]

    @property
    def line(self) -> tuple[str, str, str]:
        """The data set with what sets it apart, the protocol and the model: what differs by the seed alone."""
        dataset, protocol = self.cell
        return dataset + (f" ({self.apart})" if self.apart else ""), protocol, self.label

    @property
    def hash(self) -> str:
        """The hash of the config; see ``recbole_dgrm.records.config_hash``."""
        return config_hash(self.config)

    @property
    def identity(self) -> Identity:
        """What determines the result."""
        return Identity(self.hash, self.source)


@dataclass(frozen=True)
class Plan:
    """A plan whose keys have been checked; each key is explained in ``properties/benchmark.yaml``."""

    models: list
    datasets: list
    protocols: list[str]
    seeds: list[Seed]
    metrics: list[str] | None
    baseline: str | None
    time_limit: PositiveFloat
    threads: PositiveInt | None
    config: dict
    published: dict

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.model_entries()]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise OptionError(f"models: {', '.join(sorted(twice))} stands there twice; give each row a label")
        if self.baseline is not None and self.baseline not in labels:
            raise OptionError(
                f"baseline={self.baseline!r} is none of the models {labels}; name one of them, or ~ for no tests"
            )
        if not self.protocols or not self.seeds:
            raise OptionError("protocols and seeds must not be empty")
        self.dataset_entries()
        self.publication()

    def model_entries(self) -> list[ModelEntry]:
        """``models``, each in its long form."""
        rest: dict[str, Any] = {"protocols": None, "config": {}, "config_files": []}
        return [_entry("models", ModelEntry, "model", value, rest) for value in self.models]

    def dataset_entries(self) -> list[DatasetEntry]:
        """The rows of ``datasets``, short ones written out in full."""
        rest: dict[str, Any] = {"optional": False, "seeds": None, "protocols": None, "config": {}}
        return [_entry("datasets", DatasetEntry, "dataset", value, rest) for value in self.datasets]

    def publication(self) -> Published | None:
        """The published results of the plan, or None."""
        return read_part("published", Published, self.published, {}) if self.published else None


def find_plan(name: str) -> Path:
    """The file ``name``, or the plan of that name that comes with the package."""
    own = properties_dir() / "benchmark" / f"{name}.yaml"
    return own if own.is_file() and not Path(name).is_file() else Path(name)


def read_plan_file(
    path: Path | None, changes: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
) -> Plan:
    """Read a plan from YAML, or make one of ``changes`` alone, which replace whole keys; ``config`` is for every run.

    Raises:
        OptionError: an unknown key, a missing or a wrong one.
    """
    name = path or "the plan"
    written = {**(read_yaml(path) if path else {}), **(changes or {})}
    check_known(f"{name}: unknown key", written, [field.name for field in fields(Plan)])
    for entry in written.get("models") or []:  # relative to the plan, wherever the command is run
        if path and isinstance(entry, dict) and isinstance(entry.get("config_files"), list):
            entry["config_files"] = [str(path.parent / file) for file in entry["config_files"]]
    for key in ("models", "datasets"):
        if not written.get(key):
            raise OptionError(f"{name} names no {key}; see properties/benchmark.yaml")
    return make_plan({**written, "config": {**(written.get("config") or {}), **(config or {})}})


def make_plan(content: Mapping[str, Any]) -> Plan:
    """Make a plan of some keys; the others are those of ``properties/benchmark.yaml``."""
    return read(Plan, {**read_yaml(properties_dir() / "benchmark.yaml"), **content})


def planned_runs(plan: Plan) -> tuple[list[PlannedRun], dict[str, str]]:
    """Check the config of every run, and return all runs and the data sets that are left out with the reason.

    Raises:
        recbole_dgrm.errors.UserError: a config cannot be used, the data of a set that is not optional is
            missing, or two rows are the same run.
    """
    runs: list[PlannedRun] = []
    left_out: dict[str, str] = {}
    sources: dict[tuple, str] = {}
    for entry in plan.dataset_entries():
        try:
            runs += _runs_of(plan, entry, sources)
        except DataError as error:
            if not entry.optional:
                raise
            left_out[entry.dataset] = str(error)
    if not runs:
        raise DataError("none of the data sets is there: " + "; ".join(left_out.values()))
    _check_metrics(plan, runs)
    _check_distinct(runs)
    return runs, left_out


def _check_distinct(runs: list[PlannedRun]) -> None:
    """Check that no two rows are the same run, and that no name stands for two data sets."""
    labels: dict[str, str] = {}
    first: dict[tuple, PlannedRun] = {}
    for run in runs:
        if (label := labels.setdefault(run.hash, run.label)) != run.label:
            raise OptionError(f"{label} and {run.label} are the same runs: all their keys are equal; leave one out")
        name = run.config["dataset"]
        files = str([run.config[key] for key in ("benchmark_filename", "additional_feat_suffix")])
        other = first.setdefault((name, files), run)
        if other.source != run.source:
            raise OptionError(
                f"datasets: {name} names two data sets, in data_path={other.config['data_path']} and "
                f"{run.config['data_path']}; rename the folder and the files of one of them"
            )


def _runs_of(plan: Plan, entry: DatasetEntry, sources: dict[tuple, str]) -> list[PlannedRun]:
    found = []
    apart = ", ".join(f"{key}={value}" for key, value in entry.config.items())
    for protocol in entry.protocols or plan.protocols:
        for seed in entry.seeds or plan.seeds:
            for row in plan.model_entries():
                files = [Path(file.replace(DATASET, entry.dataset)) for file in row.config_files]
                of_others = any(DATASET in file for file in row.config_files) and not all(map(Path.is_file, files))
                if of_others or (row.protocols and protocol not in row.protocols):
                    continue
                where = {"model": row.model, "dataset": entry.dataset, "protocol": protocol, "seed": seed}
                given = {**plan.config, **entry.config, **row.config, **where}
                try:
                    config = load_config(files, given)
                except UserError as error:
                    raise type(error)(f"{row.label} on {entry.dataset}, protocol {protocol}: {error}") from error
                source = *atomic_files.source_files(config), str(config["additional_feat_suffix"])
                if source not in sources:
                    atomic_files.check_source(config)
                    sources[source] = atomic_files.source_hash(config)
                found.append(PlannedRun(row.label, config.given, sources[source], apart))
    return found


def _check_metrics(plan: Plan, runs: list[PlannedRun]) -> None:
    names = recbole_metrics.names()
    for metric in plan.metrics or []:
        if (name := metric.partition("@")[0]) not in names:
            near = get_close_matches(name.lower(), names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"metrics: {metric!r} is no metric, write them like ratedndcg@5 or rmse{hint}")
    computed = {(metric.lower(), n) for run in runs for metric in run.config["metrics"] for n in run.config["topk"]}
    shown = sorted({name for metric, n in computed for name in (metric, f"{metric}@{n}")})
    if plan.metrics and not set(plan.metrics) & set(shown):
        raise OptionError(f"metrics={plan.metrics}: none is computed by these protocols, which have {shown}")


def _entry(key: str, cls: type[T], name: str, value: Any, rest: Mapping[str, Any]) -> T:
    given = {name: value} if isinstance(value, str) else value
    if not isinstance(given, dict) or name not in given:
        raise OptionError(f"{key}: {value!r} is neither a name nor a mapping with '{name}: ...'")
    return read_part(key, cls, given, {"label": short_name(str(given[name])), **rest})
