"""Training: a visible loop. Devices, precision and processes are lightning-fabric's; everything else stands here.

A run is a folder: model.safetensors (load it), checkpoint.pt (resume it), metrics.csv (plot it). Every random choice
is a function of (seed, iteration), so a run that was killed and resumed on a CPU ends with the same bits.

An iteration's images are cut into equal parts: `accumulate` of them per process, one after the other. A part draws its
own anchors and RoIs and divides its losses by its own counts; the gradient is the mean over the parts. So two processes
do what one does with twice `accumulate`.
"""

import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .. import weights
from ..categories import Categories
from ..datasets.coco_panoptic import CocoPanoptic
from ..files import UserError
from ..model import UPSNet
from .batches import generator, loader, shape_groups
from .checkpoint import checkpoint_file, read_checkpoint, write_checkpoint
from .clock import Clock, StopSignal
from .log import Log
from .memory import checkpoint_activations, enough_memory
from .progress import Silent, Smooth, display
from .ranks import by_all, gather, launch, survivors
from .recipe import Recipe, TrainOptions, rate_factor, resumed, total_iterations

Part = tuple[list[Tensor], list[dict]]  # images and targets


def train(options: TrainOptions, show: str | Silent = "auto") -> Path:
    """Runs `options` and returns the path of the trained model. show: see `progress.display`.

    Raises UserError for bad input and for a loss that is not finite (naming it, the iteration and the image ids); what
    then lies in the folder is the checkpoint before it. Ctrl-C finishes the iteration, writes a checkpoint, and goes
    on up as KeyboardInterrupt. An image that cannot be read, or the loss of another process, leaves a checkpoint, too.
    """
    state = read_checkpoint(options.resume) if options.resume else None
    if state:
        options = continued(options, state)
    recipe = options.recipe()
    refuse_other_run(options)
    dataset = open_dataset(options)
    torch.manual_seed(options.seed)
    model = make_model(options, dataset.categories)  # what is wrong so far is said before there are more processes
    fabric = make_fabric(options, recipe)

    if options.checkpoint_activations:
        checkpoint_activations(model)
    optimizer = make_optimizer(model, recipe)
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()
    iteration, seconds = 0, 0.0
    if state:
        restore(optimizer, state, fabric, options)
        iteration, seconds = state["iteration"], state["seconds"]

    accumulate, first_part = options.accumulate, fabric.global_rank * options.accumulate
    stream = recipe.images, options.seed, iteration, options.augment, options.workers
    groups = shape_groups(dataset.images)
    parts = loader(dataset, *stream, accumulate, fabric.global_rank, fabric.world_size, groups)
    first_rank = fabric.is_global_zero  # the process that shows and writes
    log = Log(options.out, list(asdict(model.config.weights)), iteration) if first_rank else nullcontext()
    clock = Clock(total_iterations(options, recipe, len(dataset)), options.minutes, iteration, seconds)
    smooth = Smooth()

    def save() -> None:
        log.flush()  # the rows up to a checkpoint are on disk before it is
        write_checkpoint(options.out, snapshot(model, optimizer, iteration, clock.seconds(), options))

    advice = f"go on with --resume {options.out}"
    with (
        log,
        display(show if first_rank else "silent") as screen,
        StopSignal() as signal,
        survivors(fabric, save, advice),
        enough_memory(),
    ):
        while True:
            clock.lap()
            own, problem = next_parts(parts, accumulate)
            waiting = clock.lap()
            # All leave together: clocks differ, and a process that stops alone leaves the others waiting.
            said = gather(fabric, (clock.progress(iteration), signal.came, problem))
            progress, stop = said[0][0], any(came for _, came, _ in said)
            problem = next((found for *_, found in said if found), None)
            if progress >= 1 or stop or problem:
                break
            rate = set_rate(optimizer, recipe, progress)
            found = []
            for n, (images, targets) in enumerate(own):
                seed_part(options.seed, iteration, first_part + n)
                images, targets = fabric.to_device((images, targets))
                with fabric.no_backward_sync(wrapped, enabled=n + 1 < accumulate):
                    losses = wrapped(images, targets)
                    fabric.backward(sum(losses.values()) / accumulate)
                found.append({name: loss.detach() for name, loss in losses.items()})
            norm = fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
            ids = [target["image_id"] for _, targets in own for target in targets]
            values = check_finite(fabric, options, found, norm, iteration, ids)  # a bad step spoils the weights
            optimizer.step()
            optimizer.zero_grad()

            iteration += 1
            if first_rank:
                log.write(iteration, clock.seconds(), rate, waiting / (waiting + clock.lap()), values)
                screen.show(clock, iteration, smooth.update(values), rate)
                if iteration % options.save_every == 0:
                    save()
        if first_rank and (iteration or not problem):
            save()
        fabric.barrier()
    if problem:
        raise by_all(fabric, problem)
    if stop:
        raise by_all(fabric, KeyboardInterrupt())

    path = options.out / "model.safetensors"
    if first_rank:
        weights.save(model, path, notes=notes(options, iteration, clock.seconds()))
    fabric.barrier()
    return path


# ----------------------------------------------------------------------------------------------------------- before it


def refuse_other_run(options: TrainOptions) -> None:
    """UserError where `out` already holds a run, unless it is the one that is being resumed."""
    found = next((f for name in ("checkpoint.pt", "model.safetensors") if (f := options.out / name).exists()), None)
    resumes = options.resume and checkpoint_file(options.resume).parent.resolve() == options.out.resolve()
    if found and not resumes:
        raise UserError(f"{options.out} already holds a run; give another --out, or go on with --resume {options.out}")


def continued(options: TrainOptions, state: dict) -> TrainOptions:
    """`options` with what the resumed run was started with; UserError where its checkpoint does not say so."""
    try:
        return resumed(options, json.loads(state["options"]))
    except (KeyError, TypeError, ValueError):
        where = checkpoint_file(options.resume)
        raise UserError(f"{where} does not say how its run was started; start a new one with --init {where}") from None


def restore(optimizer: torch.optim.Optimizer, state: dict, fabric: Fabric, options: TrainOptions) -> None:
    """UserError where the checkpoint's optimizer is that of another network, or nonsense."""
    try:
        optimizer.load_state_dict(state["optimizer"])
    except (AttributeError, KeyError, TypeError, ValueError):
        where = checkpoint_file(options.resume)
        what = f"{where} does not hold the state of this run's optimizer; start a new run with --init {where}"
        raise by_all(fabric, UserError(what)) from None


def open_dataset(options: TrainOptions) -> CocoPanoptic:
    """The split to train on, cut to its first `limit` images; UserError where there is none."""
    dataset = CocoPanoptic(options.data, options.split, limit=options.limit)
    if not len(dataset):
        raise UserError(f"split {options.split!r} of {options.data} has no image to train on")
    return dataset


def make_fabric(options: TrainOptions, recipe: Recipe) -> Fabric:
    """The processes and devices of the run; UserError for what this machine does not have."""
    o = options
    fabric = launch(o.accelerator, o.devices, o.num_nodes, o.strategy, o.precision)
    parts = fabric.world_size * options.accumulate
    if recipe.images % parts:
        shares = f"a batch of {recipe.images} images cannot be cut into {parts} parts (processes x --accumulate)"
        raise by_all(fabric, UserError(f"{shares}; choose another --batch-size"))
    return fabric


def make_model(options: TrainOptions, categories: Categories) -> UPSNet:
    """The resumed network, one from other weights (`init`), or a fresh one. Its categories must be the data's."""
    if source := checkpoint_file(options.resume) if options.resume else options.init:
        model = weights.load(source) if options.resume else weights.initial(source, options.preset, categories)
        if difference := model.categories.difference(categories):
            which = f"the categories of {source} are not those of {options.data}"
            raise UserError(f"{which}: {difference}; use the data it was trained on, or train from scratch")
        return model
    sizes = categories.num_stuff, categories.num_thing
    try:
        return UPSNet.from_preset(options.preset, *sizes, categories, **options.overrides)
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from None


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels only: on norms and biases it would pull towards 0 what has no scale."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


# ----------------------------------------------------------------------------------------------------------- within it


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float) -> float:
    rate = recipe.lr * rate_factor(recipe, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def next_parts(parts: Iterator[Part], count: int) -> tuple[list[Part], UserError | None]:
    """What this process does in the next iteration, or why it cannot."""
    try:
        return list(islice(parts, count)), None
    except UserError as error:
        return [], error


def seed_part(seed: int, iteration: int, part: int) -> None:
    """The sampling of anchors, RoIs and kept instances depends on nothing but this."""
    torch.manual_seed(generator(seed, iteration, part, 7).initial_seed())


def check_finite(
    fabric: Fabric, options: TrainOptions, losses: list[dict[str, Tensor]], norm: Tensor, iteration: int, ids: list[int]
) -> dict[str, float]:
    """The losses as numbers, means over the parts of all processes.

    UserError where one, or the norm of the gradient, is not finite, naming it, the images of all processes and the
    iteration as metrics.csv counts them: the first is 1.
    """
    found = {name: torch.stack([part[name] for part in losses]).mean() for name in losses[0]}
    if options.precision != "16-mixed":  # there an infinite gradient is normal: the step is skipped, the scale lowered
        found["the gradient"] = norm
    values = fabric.all_reduce(torch.stack(list(found.values())), reduce_op="mean").tolist()  # all see it, all leave
    for name, value in zip(found, values, strict=True):
        if not math.isfinite(value):
            everywhere = ", ".join(str(i) for part in gather(fabric, ids) for i in part)
            where = f"at iteration {iteration + 1} (image ids {everywhere})"
            advice = "lower --lr, or look at these images with `upsnet-lite data check`"
            raise by_all(fabric, UserError(f"{name} became {value} {where}; {advice}"))
    return dict(zip(losses[0], values, strict=False))


# ------------------------------------------------------------------------------------------------------------ after it


def snapshot(model: UPSNet, optimizer, iteration: int, seconds: float, options: TrainOptions) -> dict:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "iteration": iteration,
        "seconds": seconds,
        "description": weights.describe(model),
        "options": json.dumps(asdict(options), default=str),
    }


def notes(options: TrainOptions, iteration: int, seconds: float) -> dict[str, str]:
    """What a model file says of its training; no paths, because it is handed on."""
    said = {k: v for k, v in asdict(options).items() if k not in ("data", "out", "resume", "init")}
    return {"iterations": str(iteration), "minutes": f"{seconds / 60:.1f}", "options": json.dumps(said)}
