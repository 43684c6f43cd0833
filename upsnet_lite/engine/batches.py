"""Which images form which batch, as a function of (seed, iteration) alone, so that a resumed run sees the same."""

import math
import signal
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..datasets.transforms import augment, collate, sample_generator
from ..files import UserError


def generator(*numbers: int) -> torch.Generator:
    """A random generator seeded by several numbers; close ones give unrelated streams."""
    seed = 0
    for n in numbers:
        seed = (seed * 6364136223846793005 + n + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(seed)


def shape_groups(images: Sequence[Mapping]) -> list[int]:
    """For each entry of a COCO JSON a number that entries of similar width / height share: half an octave wide.

    A batch is padded to its widest and its highest image: with a portrait beside a landscape a third of it is padding.
    """
    if any(not image.get("width") or not image.get("height") for image in images):
        return [0] * len(images)
    return [round(2 * math.log2(image["width"] / image["height"])) for image in images]


def shuffled(length: int, images: int, seed: int, epoch: int, groups: Sequence[int]) -> list[int]:
    """The order of an epoch: every index once. With several groups, as many batches as possible hold one alone.

    An epoch may begin and end within a batch; these places, and what is left of the groups, take the rest.
    """
    chance = generator(seed, epoch)
    order = torch.randperm(length, generator=chance).tolist()
    if len(set(groups)) < 2:
        return order
    begun = min(length, -epoch * length % images)  # places that complete the last batch of the epoch before
    whole = (length - begun) // images
    by_group = [[n for n in order if groups[n] == group] for group in sorted(set(groups))]
    runs = [one[k : k + images] for one in by_group for k in range(0, len(one) - images + 1, images)]
    runs = [runs[n] for n in torch.randperm(len(runs), generator=chance)[:whole].tolist()]
    taken = {n for run in runs for n in run}
    rest = [n for one in by_group for n in one if n not in taken]  # neighbours still resemble each other
    ends = begun + (whole - len(runs)) * images
    runs += [rest[k : k + images] for k in range(begun, ends, images)]
    mixed = torch.randperm(len(runs), generator=chance).tolist()
    return [*rest[:begun], *(n for k in mixed for n in runs[k]), *rest[ends:]]


class Batches(Sampler):
    """Endless parts of batches, lists of (epoch, index), from iteration `start` on.

    A batch of `images` is cut into `world` x `accumulate` equal parts, in this order; each process takes its own.
    """

    def __init__(
        self,
        length: int,
        images: int,
        seed: int,
        start: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        groups: Sequence[int] = (),
    ) -> None:
        self.length, self.images, self.seed, self.start, self.groups = length, images, seed, start, groups
        self.part = images // (world * accumulate)
        self.own = range(rank * accumulate, (rank + 1) * accumulate)
        self.epoch, self.order = -1, []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first = self.start * self.images
        while True:
            for part in self.own:
                begin = first + part * self.part
                yield [self.place(n) for n in range(begin, begin + self.part)]
            first += self.images

    def place(self, n: int) -> tuple[int, int]:
        """The n-th image that the whole run sees: its epoch and its index in the data set."""
        epoch, position = divmod(n, self.length)
        if epoch != self.epoch:
            self.epoch, self.order = epoch, shuffled(self.length, self.images, self.seed, epoch, self.groups)
        return epoch, self.order[position]


class Samples(Dataset):
    """(epoch, index) -> an augmented sample, the same each time it is asked for."""

    def __init__(self, dataset: Dataset, seed: int, augmented: bool) -> None:
        self.dataset, self.seed, self.augmented = dataset, seed, augmented

    def __getitem__(self, place: tuple[int, int]):
        epoch, index = place
        try:
            image, target = self.dataset[index]
        except UserError as error:  # raised in a worker it would arrive with that worker's traceback as its text
            return error
        return augment(image, target, sample_generator(self.seed, epoch, index)) if self.augmented else (image, target)


def collate_or_error(batch: list):
    return next((sample for sample in batch if isinstance(sample, UserError)), None) or collate(batch)


def keep_working(_worker: int) -> None:
    """Ctrl-C reaches the workers, too, but the main process still waits for a batch before it looks at it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def loader(
    dataset: Dataset,
    images: int,
    seed: int,
    start: int,
    augmented: bool,
    workers: int,
    accumulate: int = 1,
    rank: int = 0,
    world: int = 1,
    groups: Sequence[int] = (),
) -> Iterator[tuple[list, list]]:
    """Endless (images, targets) lists, this process's parts, from iteration `start` on.

    Raises UserError for a file that cannot be read.
    """
    loaded = DataLoader(
        Samples(dataset, seed, augmented),
        batch_sampler=Batches(len(dataset), images, seed, start, accumulate, rank, world, groups),
        num_workers=workers,
        collate_fn=collate_or_error,
        worker_init_fn=keep_working,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loaded:
        if isinstance(batch, UserError):
            raise batch
        yield batch
