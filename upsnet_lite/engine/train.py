"""Training: a visible loop. Devices, precision and processes are lightning-fabric's; everything else stands here.

A run is a folder: model.safetensors (load it), checkpoint.pt (resume it), metrics.csv (plot it). Every random choice
is a function of (seed, iteration), so a run that was killed and resumed on a CPU ends with the same bits.
"""

import json
import math
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from .. import weights
from ..categories import Categories
from ..datasets.coco_panoptic import CocoPanoptic
from ..files import UserError
from ..model import UPSNet
from .batches import generator, loader
from .checkpoint import checkpoint_file, read_checkpoint, write_checkpoint
from .clock import Clock, StopSignal
from .log import Log
from .progress import Silent, Smooth, display
from .recipe import Recipe, TrainOptions, rate_factor, resumed, total_iterations


def train(options: TrainOptions, show: str | Silent = "auto") -> Path:
    """Runs `options` and returns the path of the trained model. show: see `progress.display`.

    Raises UserError for bad input and for a loss that is not finite (naming it, the iteration and the image ids); what
    then lies in the folder is the checkpoint before it. Ctrl-C finishes the iteration, writes a checkpoint, and goes
    on up as KeyboardInterrupt.
    """
    state = read_checkpoint(options.resume) if options.resume else None
    if state:
        options = resumed(options, json.loads(state["options"]))
    recipe = options.recipe()
    refuse_other_run(options)
    dataset = open_dataset(options)
    fabric = make_fabric(options, recipe)

    torch.manual_seed(options.seed)
    model = make_model(options, dataset.categories)
    optimizer = make_optimizer(model, recipe)
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()
    iteration, seconds = 0, 0.0
    if state:
        optimizer.load_state_dict(state["optimizer"])
        iteration, seconds = state["iteration"], state["seconds"]

    stream = recipe.images, options.seed, iteration, options.augment, options.workers
    batches = loader(dataset, *stream, fabric.global_rank, fabric.world_size)
    first_rank = fabric.is_global_zero  # the process that shows and writes
    log = Log(options.out, list(asdict(model.config.weights)), iteration) if first_rank else nullcontext()
    clock = Clock(total_iterations(options, recipe, len(dataset)), options.minutes, iteration, seconds)
    smooth = Smooth()

    def save() -> None:
        log.flush()  # the rows up to a checkpoint are on disk before it is
        write_checkpoint(options.out, snapshot(model, optimizer, iteration, clock.seconds(), options))

    with log, display(show if first_rank else "silent") as screen, StopSignal() as signal:
        for images, targets in batches:
            # The first process decides for all: clocks differ, and one that stops alone leaves the others waiting.
            progress, stop = fabric.broadcast((clock.progress(iteration), signal.came))
            if progress >= 1 or stop:
                break
            waiting = clock.lap()
            rate = set_rate(optimizer, recipe, progress)
            seed_iteration(options.seed, iteration, fabric.global_rank)
            images, targets = fabric.to_device((images, targets))

            losses = wrapped(images, targets)
            fabric.backward(sum(losses.values()))
            norm = fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
            values = check_finite(fabric, options, losses, norm, iteration, targets)  # a bad step spoils the weights
            optimizer.step()
            optimizer.zero_grad()

            iteration += 1
            if first_rank:
                log.write(iteration, clock.seconds(), rate, waiting / (waiting + clock.lap()), values)
                screen.show(clock, iteration, smooth.update(values), rate)
                if iteration % options.save_every == 0:
                    save()
        if first_rank:
            save()
    if stop:
        raise KeyboardInterrupt

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


def open_dataset(options: TrainOptions) -> CocoPanoptic:
    """The split to train on, cut to its first `limit` images; UserError where there is none."""
    dataset = CocoPanoptic(options.data, options.split, limit=options.limit)
    if not len(dataset):
        raise UserError(f"split {options.split!r} of {options.data} has no image to train on")
    return dataset


def make_fabric(options: TrainOptions, recipe: Recipe) -> Fabric:
    """The processes and devices of the run; UserError for what this machine does not have."""
    try:
        fabric = Fabric(
            accelerator=options.accelerator,
            devices=options.devices if options.devices == "auto" else int(options.devices),
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"cannot train with these --devices, --accelerator and --precision: {error}") from None
    fabric.launch()
    if recipe.images % fabric.world_size:
        shares = f"a batch of {recipe.images} images cannot be shared by {fabric.world_size} processes"
        raise UserError(f"{shares}; choose another --batch-size")
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


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """The sampling of anchors, RoIs and kept instances depends on nothing but this."""
    torch.manual_seed(generator(seed, iteration, rank, 7).initial_seed())


def check_finite(
    fabric: Fabric, options: TrainOptions, losses: dict[str, Tensor], norm: Tensor, iteration: int, targets: list[dict]
) -> dict[str, float]:
    """The losses as numbers, means over the processes.

    UserError where one, or the norm of the gradient, is not finite, naming it and the images of all processes.
    """
    found = {name: loss.detach() for name, loss in losses.items()}
    if options.precision != "16-mixed":  # there an infinite gradient is normal: the step is skipped, the scale lowered
        found["the gradient"] = norm
    values = fabric.all_reduce(torch.stack(list(found.values())), reduce_op="mean").tolist()  # all see it, all leave
    for name, value in zip(found, values, strict=True):
        if not math.isfinite(value):
            ids = fabric.all_gather(torch.tensor([t["image_id"] for t in targets], device=fabric.device))
            where = f"at iteration {iteration} (image ids {', '.join(map(str, ids.flatten().tolist()))})"
            advice = "lower --lr, or look at these images with `upsnet-lite data check`"
            raise UserError(f"{name} became {value} {where}; {advice}")
    return dict(zip(losses, values, strict=False))


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
