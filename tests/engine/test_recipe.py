"""recipe: what a run may ask for, how long it is, and the rate at each moment."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from upsnet_lite.config import PRESETS
from upsnet_lite.engine.recipe import (
    RECIPES,
    Recipe,
    TrainOptions,
    parse_settings,
    rate_factor,
    resumed,
    total_iterations,
)
from upsnet_lite.files import UserError

OPTIONS = TrainOptions(Path("data"), Path("run"))


def test_every_preset_has_a_recipe():
    assert list(RECIPES) == list(PRESETS)


def test_the_published_recipe():
    """Steps at 60 000 and 80 000 of 90 000 iterations, a warm-up of 1 500 from a third."""
    recipe = RECIPES["resnet50"]
    rate = {i: recipe.lr * rate_factor(recipe, i / 90_000) for i in (0, 750, 1_500, 59_999, 60_001, 79_999, 80_001)}
    assert list(rate.values()) == pytest.approx([0.02 / 3, 0.02 * 2 / 3, 0.02, 0.02, 2e-3, 2e-3, 2e-4])
    assert (recipe.images, recipe.optimizer, recipe.momentum, recipe.weight_decay) == (16, "sgd", 0.9, 1e-4)


def test_cosine_rises_then_falls_to_nothing():
    recipe = Recipe(schedule="cosine", warmup=0.2)
    assert [rate_factor(recipe, p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5, 0], abs=1e-9)
    rates = [rate_factor(recipe, p / 100) for p in range(101)]
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rate_factor(recipe, 1.5) == pytest.approx(0, abs=1e-9), "after the end it does not rise again"
    assert rate_factor(replace(recipe, warmup=0.0), 0) == 1


def test_the_rate_follows_the_batch_unless_it_is_given():
    assert replace(OPTIONS, preset="resnet50", images=4).recipe().lr == pytest.approx(0.005)  # as the release does
    assert replace(OPTIONS, preset="resnet50", images=4, lr=0.1).recipe().lr == 0.1
    assert OPTIONS.recipe() == RECIPES["tiny"]


def test_length():
    recipe = RECIPES["tiny"]  # four images an iteration
    assert total_iterations(OPTIONS, recipe, 2000) == recipe.iterations
    assert total_iterations(replace(OPTIONS, iterations=7), recipe, 2000) == 7
    assert total_iterations(replace(OPTIONS, epochs=1.5), recipe, 2000) == 750
    assert total_iterations(replace(OPTIONS, epochs=0.001), recipe, 2000) == 1
    assert total_iterations(replace(OPTIONS, minutes=3), recipe, 2000) is None, "the clock decides"


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(minutes=1, epochs=1), "--minutes and --epochs both say how long"),
        (dict(epochs=1, iterations=5), "--epochs and --iterations both say how long"),
        (dict(minutes=0), "--minutes must be more than 0, got 0"),
        (dict(minutes=float("inf")), "--minutes must be"),
        (dict(minutes=float("nan")), "--minutes must be"),
        (dict(lr=0), "--lr must be more than 0"),
        (dict(images=-1), "--batch-size must be more than 0, got -1"),
        (dict(limit=0), "--limit must be more than 0"),
        (dict(save_every=0), "--save-every must be more than 0"),
        (dict(accumulate=0), "--accumulate must be more than 0"),
        (dict(init="a", resume=Path("b")), "--init and --resume both say which network"),
        (dict(init="a", overrides=dict(norm="group")), "--init and overrides both say which network"),
    ],
)
def test_what_contradicts_itself_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        replace(OPTIONS, **wrong)


def stored(**options) -> dict:
    return json.loads(json.dumps(asdict(replace(OPTIONS, **options)), default=str))


def test_a_resumed_run_takes_what_is_left_open_from_its_checkpoint():
    before = stored(images=3, lr=0.5, limit=9, epochs=2, overrides=dict(widths=(8, 16)))
    given = replace(OPTIONS, resume=Path("run"), overrides=dict(widths=(8, 16)))
    found = resumed(given, before)
    assert (found.images, found.lr, found.limit, found.epochs) == (3, 0.5, 9, 2)
    longer = resumed(replace(given, minutes=5, lr=0.1), before)
    assert (longer.minutes, longer.epochs, longer.lr) == (5, None, 0.1), "a new length and a new rate are welcome"


@pytest.mark.parametrize(
    "changed", [dict(seed=1), dict(images=2), dict(preset="resnet50"), dict(augment=False), dict(limit=3)]
)
def test_a_resumed_run_must_stay_the_same_run(changed):
    ((name, value),) = changed.items()
    with pytest.raises(UserError, match=f"was started with --.* not {value}"):
        resumed(replace(OPTIONS, resume=Path("run"), **changed), stored(images=3, limit=9))


def test_settings_are_numbers_tuples_words_and_nothing_else():
    given = ["min_size=256", "anchor_sizes=8,16,32,64,128", "norm=group", "unknown=False", "outside=-inf"]
    assert parse_settings(given) == dict(min_size=256, anchor_sizes=(8, 16, 32, 64, 128), norm="group") | dict(
        unknown=False, outside=float("-inf")
    )
    for broken in ("min_size", "=3", "min_size="):
        with pytest.raises(UserError, match="write NAME=VALUE"):
            parse_settings([broken])
