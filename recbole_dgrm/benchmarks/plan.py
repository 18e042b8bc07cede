"""A benchmark plan: YAML with models, data sets, protocols and seeds, and its list of runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import atomic_files
from recbole_dgrm.errors import DataError, OptionError, UserError
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.identity import Identity, config_hash
from recbole_dgrm.options import Seed, check, check_known, read, read_part
from recbole_dgrm.records import short_name
from recbole_dgrm.system.yaml_files import properties_dir

DATASET = "{dataset}"  # placeholder in the name of a config file; the row is for data sets that have such a file


@dataclass(frozen=True)
class ModelEntry:
    """A row of the tables, under all protocols of the plan or only those named."""

    model: str
    label: str
    protocols: list[str] | None
    config: dict
    config_files: list[str]


@dataclass(frozen=True)
class DatasetEntry:
    """A data set; its seeds and protocols, if it has any, replace those of the plan."""

    dataset: str
    optional: bool
    seeds: list[Seed] | None
    protocols: list[str] | None
    config: dict


@dataclass(frozen=True)
class Published:
    """Published results ``values[dataset][label][metric]``, which are shown next to ours for these ``protocols``."""

    source: str
    protocols: list[str]
    values: dict


@dataclass(frozen=True)
class Plan:
    """A checked plan; each key is explained in ``properties/benchmark.yaml``."""

    models: list[ModelEntry]
    datasets: list[DatasetEntry]
    protocols: list[str]
    seeds: list[Seed]
    metrics: list[str] | None
    baseline: str | None
    time_limit: PositiveFloat
    threads: PositiveInt | None
    config: dict
    published: dict

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.models]
        if twice := {label for label in labels if labels.count(label) > 1}:
            raise OptionError(f"models: {', '.join(sorted(twice))} occurs twice; give each row its own label")
        if self.baseline is not None and self.baseline not in labels:
            raise OptionError(
                f"baseline={self.baseline!r} is not one of the models {labels}; name one of them, or ~ for no tests"
            )
        if not self.protocols or not self.seeds:
            raise OptionError("protocols and seeds must not be empty")
        if self.published:
            read_part("published", Published, self.published, {})


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a plan: its merged keys, the hash of its data files, and the keys of its data set's entry, as text."""

    label: str
    config: dict[str, Any]
    source: str
    dataset_keys: str = ""

    @property
    def line(self) -> tuple[str, str, str]:
        """The data set with its keys, the protocol and the label; runs with the same ones differ only in the seed."""
        dataset = self.config["dataset"] + (f" ({self.dataset_keys})" if self.dataset_keys else "")
        return dataset, self.config["protocol"], self.label

    @property
    def identity(self) -> Identity:
        """The identity of the run: everything that determines its result."""
        return Identity(config_hash(self.config), self.source)


def find_plan(name: str) -> Path:
    """The file ``name``, or the plan of that name in the package."""
    own = properties_dir() / "benchmark" / f"{name}.yaml"
    return own if own.is_file() and not Path(name).is_file() else Path(name)


def make_plan(content: Mapping[str, Any], path: Path | None = None) -> Plan:
    """Make a plan from ``content``; other keys have the defaults of ``properties/benchmark.yaml``.

    Paths of config files are relative to the folder of ``path``, the file of the content.
    """
    name, folder = (path, path.parent) if path else ("the plan", Path())
    check_known(f"{name}: unknown key", content, [field.name for field in fields(Plan)])
    models = [
        replace(entry, config_files=[str(folder / file) for file in entry.config_files])
        for entry in _entries(name, content, "model", ModelEntry, {"protocols": None, "config": {}, "config_files": []})
    ]
    rest: dict[str, Any] = {"optional": False, "seeds": None, "protocols": None, "config": {}}
    written = {**content, "models": models, "datasets": _entries(name, content, "dataset", DatasetEntry, rest)}
    return read(Plan, {**read_yaml(properties_dir() / "benchmark.yaml"), **written})


def planned_runs(plan: Plan) -> tuple[list[PlannedRun], dict[str, str]]:
    """Check the config of every run; returns the runs, and the data sets that are left out with the reason."""
    runs: list[PlannedRun] = []
    left_out: dict[str, str] = {}
    sources: dict[tuple, str] = {}
    for entry in plan.datasets:
        try:
            runs += list(_runs_of(plan, entry, sources))
        except DataError as error:
            if not entry.optional:
                raise
            left_out[entry.dataset] = str(error)
    if not runs:
        raise DataError("none of the data sets exists: " + "; ".join(left_out.values()))
    _check_metrics(plan, runs)
    _check_distinct(runs)
    return runs, left_out


def _runs_of(plan: Plan, entry: DatasetEntry, sources: dict[tuple, str]) -> Iterator[PlannedRun]:
    """The runs on a data set; ``sources`` is a cache of the hashes of data sets' files."""
    dataset_keys = ", ".join(f"{key}={value}" for key, value in entry.config.items())
    for protocol, seed, row in product(entry.protocols or plan.protocols, entry.seeds or plan.seeds, plan.models):
        files = [Path(file.replace(DATASET, entry.dataset)) for file in row.config_files]
        of_others = any(DATASET in file for file in row.config_files) and not all(map(Path.is_file, files))
        if of_others or (row.protocols and protocol not in row.protocols):
            continue
        where = {"model": row.model, "dataset": entry.dataset, "protocol": protocol, "seed": seed}
        try:
            config = load_config(files, {**plan.config, **entry.config, **row.config, **where})
        except UserError as error:
            raise type(error)(f"{row.label} on {entry.dataset}, protocol {protocol}: {error}") from error
        source = *atomic_files.source_files(config), str(config["additional_feat_suffix"])
        if source not in sources:
            atomic_files.check_source(config)
            sources[source] = atomic_files.source_hash(config)
        yield PlannedRun(row.label, config.given, sources[source], dataset_keys)


def _check_metrics(plan: Plan, runs: list[PlannedRun]) -> None:
    named = [metric.partition("@")[0] for metric in plan.metrics or []]
    check_known("metrics: there is no metric", named, recbole_metrics.names())
    computed = {(metric.lower(), n) for run in runs for metric in run.config["metrics"] for n in run.config["topk"]}
    shown = sorted({name for metric, n in computed for name in (metric, f"{metric}@{n}")})
    if plan.metrics and not set(plan.metrics) & set(shown):
        raise OptionError(f"metrics={plan.metrics}: these protocols compute none of them, but {shown}")


def _check_distinct(runs: list[PlannedRun]) -> None:
    """Check that no two rows are the same run, and that no two data sets have the same name."""
    labels: dict[str, str] = {}
    first: dict[tuple, PlannedRun] = {}
    for run in runs:
        if (label := labels.setdefault(run.identity.config, run.label)) != run.label:
            raise OptionError(f"{label} and {run.label} are the same runs: all their keys are equal; leave one out")
        name = run.config["dataset"]
        files = str([run.config[key] for key in ("benchmark_filename", "additional_feat_suffix")])
        other = first.setdefault((name, files), run)
        if other.source != run.source:
            raise OptionError(
                f"datasets: {name} names two data sets, in data_path={other.config['data_path']} and "
                f"{run.config['data_path']}; rename the folder and the files of one of them"
            )


def _entries(plan: object, content: Mapping[str, Any], name: str, cls: type, rest: Mapping[str, Any]) -> list[Any]:
    """The entries of ``models`` or ``datasets``, each a name or a mapping; ``rest`` has the defaults."""
    entries, key = list[Any](), f"{name}s"
    if not content.get(key):
        raise OptionError(f"{plan} names no {key}; see properties/benchmark.yaml")
    for value in check(key, content[key], list):
        given = {name: value} if isinstance(value, str) else value
        if not isinstance(given, dict) or name not in given:
            raise OptionError(f"{key}: {value!r} is neither a name nor a mapping with '{name}: ...'")
        entries.append(read_part(key, cls, given, {"label": short_name(str(given[name])), **rest}))
    return entries
