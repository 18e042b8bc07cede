"""What a caller has set for torch, numpy and Python, which must not change our results, nor be changed by us.

Some of it belongs to a thread: gradients, autocast, the default device, numpy's handling of errors. ``usual_settings``
replaces it in the calling thread, and no other thread notices. The rest belongs to the process: the random generators
that layers, dropout and RecBole draw from, the default dtype, deterministic algorithms. Threads use it in turns, one
after the other: within ``turn`` everything is as in a new process, and afterwards as it was before.
"""

import random
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

# Warnings that users can do nothing about: all of RecBole, which is frozen, and some others by their opening.
KNOWN_WARNINGS = (  # opening and module
    ("", r"recbole\."),
    ("ks_2samp: Exact calculation unsuccessful.", ""),  # scipy takes the asymptotic p-value
    ("Argument ``constant_liar`` is an experimental feature", ""),  # of Optuna, since 2021
)
_INSTALLED: list[Any] = []  # the filters of these as ``warnings`` has them


def ignore_known_warnings() -> None:
    """Ignore ``KNOWN_WARNINGS`` from now on, even if the caller has made errors of all warnings."""
    if warnings.filters[: len(_INSTALLED)] != _INSTALLED or not _INSTALLED:
        for opening, module in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", opening, module=module)
        _INSTALLED[:] = warnings.filters[: len(KNOWN_WARNINGS)]


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
        depth = torch.autocast_increment_nesting() - 1  # of the caller's blocks; ours is counted, too
        for _ in range(depth + 1):
            torch.autocast_decrement_nesting()  # where an outermost block ends, casts of old weights are forgotten
        try:
            for device in DEVICES:
                torch.set_autocast_enabled(device, False)
                torch.set_autocast_dtype(device, torch.bfloat16)  # RecBole's own loop does not say which
            yield
        finally:
            for _ in range(depth):
                torch.autocast_increment_nesting()
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
        self._seed = seed
        self._own: tuple[Any, ...] | None = None

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
