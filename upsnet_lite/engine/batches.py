"""Which images form which batch, as a function of (seed, iteration) alone, so that a resumed run sees the same."""

import signal
from collections.abc import Iterator

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


class Batches(Sampler):
    """Endless batches of (epoch, index) from iteration `start` on; each process takes its own slice."""

    def __init__(self, length: int, images: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.length, self.images, self.seed, self.start = length, images, seed, start
        self.rank, self.share = rank, images // world
        self.epoch, self.order = -1, []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first = self.start * self.images + self.rank * self.share
        while True:
            yield [self.place(n) for n in range(first, first + self.share)]
            first += self.images

    def place(self, n: int) -> tuple[int, int]:
        """The n-th image that the whole run sees: its epoch and its index in the data set."""
        epoch, position = divmod(n, self.length)
        if epoch != self.epoch:
            self.epoch, self.order = epoch, torch.randperm(self.length, generator=generator(self.seed, epoch)).tolist()
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
    dataset: Dataset, images: int, seed: int, start: int, augmented: bool, workers: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[list, list]]:
    """Endless (images, targets) lists from iteration `start` on. Raises UserError for a file that cannot be read."""
    loaded = DataLoader(
        Samples(dataset, seed, augmented),
        batch_sampler=Batches(len(dataset), images, seed, start, rank, world),
        num_workers=workers,
        collate_fn=collate_or_error,
        worker_init_fn=keep_working,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loaded:
        if isinstance(batch, UserError):
            raise batch
        yield batch
