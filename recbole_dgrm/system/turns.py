"""What a caller has set for torch, numpy and Python, which must not change our results, nor be changed by us.

Some of it belongs to a thread: gradients, autocast, the default device, numpy's handling of errors. ``usual_settings``
replaces it in the calling thread, and no other thread notices. The rest belongs to the process: the random generators
that layers, dropout and RecBole draw from, the default dtype, deterministic algorithms. Threads use it in turns, one
after the other: within ``turn`` everything is as in a new process, and afterwards as it was before.
"""

import random
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Self

import numpy as np
import torch

DEVICES = ("cpu", "cuda")
_TURN = threading.RLock()
_HANDED_DOWN: ContextVar[torch.Generator | None] = ContextVar("handed_down", default=None)

# Warnings of other libraries that our users can do nothing about, by their exact opening.
KNOWN_WARNINGS = (
    # pandas 2 and 3: RecBole fills missing values in place on a column; ``read_csv`` and ``fill_missing`` do it before.
    "A value is trying to be set on a copy of a DataFrame or Series through chained assignment using an inplace",
    "A value is being set on a copy of a DataFrame or Series through chained assignment using an inplace",
    # pandas 3: RecBole makes tensors of columns, which are read-only there; it drops the table right after.
    "The given NumPy array is not writable",
    # torch: RecBole's graph models build their matrices the old way.
    "torch.sparse.SparseTensor(indices, values",
    "Creating a tensor from a list of numpy.ndarrays is extremely slow.",
    # scipy: it takes the asymptotic p-value where it cannot compute the exact one.
    "ks_2samp: Exact calculation unsuccessful.",
)
_FILTERS = [("ignore", re.compile(r"\s*" + re.escape(opening), re.I), Warning, None, 0) for opening in KNOWN_WARNINGS]


def ignore_known_warnings() -> None:
    """Ignore ``KNOWN_WARNINGS`` from now on, even if the caller has made errors of all warnings."""
    if warnings.filters[: len(_FILTERS)] != _FILTERS:
        for _, pattern, *_ in reversed(_FILTERS):
            warnings.filterwarnings("ignore", message=pattern.pattern)


@contextmanager
def usual_settings() -> Iterator[None]:
    """Within the block, the settings that this thread has for itself are those that a training needs."""
    before = [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in DEVICES]
    elsewhere = torch.get_default_device().type != "cpu"
    with (
        torch.inference_mode(False),  # gradients are computed, too
        torch.device("cpu") if elsewhere else nullcontext(),
        np.errstate(all="ignore"),
    ):
        try:
            for device in DEVICES:
                torch.set_autocast_enabled(device, False)
                torch.set_autocast_dtype(device, torch.bfloat16)  # RecBole's own loop does not say which
            yield
        finally:
            for device, enabled, dtype in before:
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)


@contextmanager
def turn() -> Iterator[None]:
    """Within the block, this thread alone uses the settings and generators of the process, which are the usual ones.

    Afterwards all are as they were before. A thread that has the turn may take it again.
    """
    with _TURN, usual_settings():
        generators, dtype, cudnn = _generators(), torch.get_default_dtype(), torch.backends.cudnn
        strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
        try:
            torch.set_default_dtype(torch.float32)
            if strict[0]:
                torch.use_deterministic_algorithms(False)
            ignore_known_warnings()
            yield
        finally:
            torch.set_default_dtype(dtype)
            if strict[0]:
                torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
            cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
            _set_generators(generators)


class OwnRandomness:
    """Within ``with own:``, torch's generators give the random numbers of a seed; entered again, they go on with them.

    Before and after, all generators are where the caller had them. The block has the turn.
    """

    def __init__(self, seed: int):
        self._seed, self._own = seed, None

    def __enter__(self) -> Self:
        _TURN.acquire()
        self._callers = _generators()
        if self._own is None:
            torch.manual_seed(self._seed)
        else:
            _set_generators(self._own)
        return self

    def __exit__(self, *_: object) -> None:
        self._own = _generators()
        _set_generators(self._callers)
        _TURN.release()


class OwnGenerator:
    """Within ``with own:``, models that take the generator ``handed_down`` draw the random numbers of a seed.

    Nothing of the process is changed, so threads need no turns. Entered again, the random numbers go on.
    """

    def __init__(self, seed: int, device: torch.device):
        self._generator = torch.Generator(device).manual_seed(seed)

    def __enter__(self) -> None:
        self._token = _HANDED_DOWN.set(self._generator)

    def __exit__(self, *_: object) -> None:
        _HANDED_DOWN.reset(self._token)


def handed_down() -> torch.Generator | None:
    """The generator to draw from at prediction; None means torch's own, whose seed is set where a turn is taken."""
    return _HANDED_DOWN.get()


def _generators() -> tuple[Any, ...]:
    """The states of all generators; None for those of GPUs, as long as nothing has used a GPU."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), gpus, np.random.get_state(legacy=False), random.getstate()


def _set_generators(states: tuple[Any, ...]) -> None:
    cpu, gpus, numpys, pythons = states
    torch.set_rng_state(cpu)
    if gpus is not None:
        torch.cuda.set_rng_state_all(gpus)
    elif torch.cuda.is_available():  # nothing had used a GPU before: from this seed its generator begins
        torch.cuda.manual_seed_all(torch.initial_seed())
    np.random.set_state(numpys)
    random.setstate(pythons)
