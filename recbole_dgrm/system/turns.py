"""Isolation from a caller's settings of torch, numpy and Python, which must not change results nor be changed.

Some settings belong to a thread: gradients, autocast, the default device, numpy's handling of errors.
``usual_settings`` replaces them in the calling thread only. The others belong to the process: the random generators of
layers, dropout and RecBole, the default dtype, deterministic algorithms. Threads use these in turns: within ``turn``
they are as in a new process, and afterwards as before.
"""

import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import numpy as np
import torch

_TURN = threading.RLock()

# Warnings that users can do nothing about.
KNOWN_WARNINGS = (  # the beginning of the message, and the module
    ("", r"recbole\."),
    ("Argument ``constant_liar`` is an experimental feature", ""),  # of Optuna, since 2021
)
_INSTALLED: list[Any] = []  # the filters for these in ``warnings.filters``


def ignore_known_warnings() -> None:
    """Ignore ``KNOWN_WARNINGS`` from now on, even if the caller has turned warnings into errors."""
    if warnings.filters[: len(_INSTALLED)] != _INSTALLED or not _INSTALLED:
        for opening, module in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", opening, module=module)
        _INSTALLED[:] = warnings.filters[: len(KNOWN_WARNINGS)]


@contextmanager
def usual_settings() -> Iterator[None]:
    """Within the block, the settings of this thread are those that training needs."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # gradients are computed, too
        stack.enter_context(np.errstate(all="ignore"))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def turn() -> Iterator[None]:
    """Within the block, only this thread uses the process-wide settings, which are the defaults, and the generators.

    Afterwards all are as before. Turns of the same thread can be nested.
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
    """Within ``with own:``, torch's generators have their own state, which begins with a seed and continues next time.

    Afterwards all generators have the caller's states again. Threads take turns.
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


def _generators() -> tuple[Any, ...]:
    """The states of all generators; None for those of GPUs if no GPU has been used."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), gpus, np.random.get_state(legacy=False), random.getstate()


def _set_generators(states: tuple[Any, ...]) -> None:
    cpu, gpus, numpys, pythons = states
    torch.set_rng_state(cpu)
    if gpus is not None:
        torch.cuda.set_rng_state_all(gpus)
    elif torch.cuda.is_available():  # no GPU had been used, so its generator starts from this seed
        torch.cuda.manual_seed_all(torch.initial_seed())
    np.random.set_state(numpys)
    random.setstate(pythons)
