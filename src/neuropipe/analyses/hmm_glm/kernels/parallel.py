"""Threads over pieces of the data, whose results do not depend on the number of threads."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numba

__all__ = ["ordered_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@functools.cache
def _executor(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="hmm_glm")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function that releases the interpreter lock to every item, in threads.

    Parameters
    ----------
    function : callable
    items : iterable
        Cut without regard to the number of threads.

    Yields
    ------
    result
        In the order of the items, so that sums of the results have the same rounding for any
        number of threads. `numba.get_num_threads` threads run; with one, nothing is started.
    """
    workers = numba.get_num_threads()
    if workers == 1:
        yield from map(function, items)
        return
    pool, under_way = _executor(workers), deque[Future[Result]]()
    for item in items:
        under_way.append(pool.submit(function, item))
        # Every result holds memory: no more are asked for than keep the threads busy.
        if len(under_way) > 2 * workers:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
