"""Several processes as one run, started by Fabric, or by torchrun or SLURM and found by Fabric.

    launch      the processes asked for                        share      this process's part of the work
    gather      where all of them meet                         survivors  what the loss of one means for the others

What all of them know is said once, by the first. What happens to one alone, it says itself; the others end with it.
`fabric` None is a single process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..files import UserError


def launch(accelerator: str, devices: str, num_nodes: int = 1, strategy: str = "auto", precision: str = "32-true"):
    """The Fabric of these processes and devices; UserError for what this machine does not have.

    Fabric starts one process per device. Under torchrun, and with `srun` under SLURM, they run already: `devices` and
    `num_nodes` then say how many, and must be what these commands were told.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        count = devices if devices == "auto" else int(devices)
        fabric = Fabric(
            accelerator=accelerator, devices=count, num_nodes=num_nodes, strategy=strategy, precision=precision
        )
        fabric.launch()
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        options = "--devices, --num-nodes, --strategy, --accelerator and --precision"
        raise UserError(f"cannot run with these {options}: {error}") from None
    if started() not in (1, fabric.world_size):  # each would be a run of its own, all in one folder
        said = f"--devices and --num-nodes say {fabric.world_size}"
        raise UserError(f"torchrun started {started()} processes, {said}; give --devices as its --nproc-per-node")
    return fabric


def started() -> int:
    """How many processes torchrun has made of this command; 1 without it."""
    dist = torch.distributed
    return int(os.environ["WORLD_SIZE"]) if dist.is_available() and dist.is_torchelastic_launched() else 1


def is_first(fabric) -> bool:
    """The process that shows, writes and speaks."""
    return fabric is None or fabric.is_global_zero


def was_first() -> bool:
    """The same after a run, without its Fabric."""
    dist = torch.distributed
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def share(length: int, fabric) -> range:
    """This process's part of `length` images: each image in exactly one part, the parts in the order of the ranks."""
    rank, world = (fabric.global_rank, fabric.world_size) if fabric else (0, 1)
    return range(rank * length // world, (rank + 1) * length // world)


def gather(fabric, value) -> list:
    """Every process's value, in the order of the ranks. A UserError among them is raised by all of them."""
    values = [value]
    if fabric and fabric.world_size > 1:
        values = [None] * fabric.world_size
        torch.distributed.all_gather_object(values, value)
    if problem := next((v for v in values if isinstance(v, UserError)), None):
        raise by_all(fabric, problem)
    return values


def by_all(fabric, error: BaseException) -> BaseException:
    """What a process must raise so that an error known to all is said once: the others leave silently."""
    if not is_first(fabric):
        return SystemExit(1)
    unwatched(fabric)
    return error


def unwatched(fabric) -> list:
    """The processes that Fabric started from this one. It no longer looks after them.

    Until then a thread of Fabric's kills this process, too, within five seconds after one of them has failed: good
    where nothing else would end it, bad while it writes what can still be saved.
    """
    started = getattr(fabric.strategy.launcher, "procs", []) if fabric else []
    found = list(started)
    started.clear()
    return found


@contextmanager
def survivors(fabric, rescue: Callable[[], None] = lambda: None, advice: str = "start it again") -> Iterator[None]:
    """Inside, the end of one process is the end of all.

    The loss of another one is said by the first in one line, after `rescue`. What stops the first itself stops those
    that it started: they would wait for it.
    """
    try:
        yield
    except BaseException as error:
        if fabric is None or fabric.world_size == 1:
            raise
        lost = isinstance(error, RuntimeError) and is_loss(error)
        if lost and not is_first(fabric):
            raise SystemExit(1) from None
        others = unwatched(fabric)
        if lost:
            rescue()
        for process in others:
            process.kill()
        if not lost:
            raise
        what = f"one of the {fabric.world_size} processes of this run has ended"
        raise UserError(f"{what} (what it said itself stands above; nothing: it was killed); {advice}") from None


def is_loss(error: RuntimeError) -> bool:
    """Whether another process went away: torch.distributed's own error, or gloo's, which is a bare RuntimeError."""
    signs = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")
    return isinstance(error, torch.distributed.DistError) or any(sign in str(error).lower() for sign in signs)
