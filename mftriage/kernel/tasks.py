"""Tasks of the dump, walked with an end in sight."""

from __future__ import annotations

from collections.abc import Iterator

from drgn import FaultError, Object

from mftriage.kernel.search import Budget
from mftriage.model import Task
from mftriage.symbols import Kernel
from mftriage.text import c_string


def tasks(kernel: Kernel, budget: Budget) -> Iterator[Object]:
    """Every task that can be reached while the budget lasts, ``init_task`` first."""
    if (address := kernel.address("init_task")) is not None:
        yield Object(kernel.program, "struct task_struct", address=address).address_of_()
    from drgn.helpers.linux.pid import for_each_task

    try:
        for task in for_each_task(kernel.program):
            if budget.spent():
                return
            yield task
    except (FaultError, LookupError, ValueError):
        return


def describe(task: Object) -> Task:
    """Name and pid of a ``struct task_struct *``."""
    return Task(comm=c_string(task.comm.string_()), pid=task.pid.value_())


def task_at(kernel: Kernel, address: int) -> Object:
    """The ``struct task_struct *`` at an address."""
    return Object(kernel.program, "struct task_struct *", address)
