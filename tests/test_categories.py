"""Category ids on disk and the class index of X."""

import pytest

from upsnet_lite.categories import IGNORE, Categories, Category, golden_color

COCO_LIKE = [
    {"id": 7, "name": "train", "color": [1, 2, 3], "isthing": 1, "supercategory": "vehicle"},
    {"id": 200, "name": "rug", "color": [4, 5, 6], "isthing": 0},
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 92, "name": "banner", "isthing": 0},
]


def test_stuff_first_each_by_ascending_id() -> None:
    categories = Categories.from_json(COCO_LIKE)
    assert [c.name for c in categories] == ["banner", "rug", "person", "train"]
    assert [categories.index(i) for i in (92, 200, 1, 7)] == [0, 1, 2, 3]
    assert (categories.num_stuff, categories.num_thing, len(categories)) == (2, 2, 4)
    assert [c.id for c in categories.stuff] == [92, 200] and [c.id for c in categories.things] == [1, 7]
    assert categories[3] == Category(7, "train", (1, 2, 3), True, "vehicle")
    assert 92 in categories and 3 not in categories


def test_json_round_trip() -> None:
    categories = Categories.from_json(COCO_LIKE)
    assert Categories.from_json(categories.to_json()) == categories
    assert categories.to_json()[1]["color"] == [4, 5, 6] and categories.to_json()[0]["isthing"] == 0


@pytest.mark.parametrize("missing", ["id", "name", "isthing"])
def test_an_entry_that_lacks_something_is_named(missing) -> None:
    broken = [COCO_LIKE[0], {k: v for k, v in COCO_LIKE[1].items() if k != missing}]
    with pytest.raises(ValueError, match=f"category number 1.*{missing}"):
        Categories.from_json(broken)


@pytest.mark.parametrize("odd", [{"id": "x"}, {"color": 3}, {"color": ["red"]}])
def test_an_entry_that_is_no_category(odd) -> None:
    with pytest.raises(ValueError, match="category number 0"):
        Categories.from_json([COCO_LIKE[0] | odd])


def test_an_id_twice() -> None:
    with pytest.raises(ValueError, match="category id 7 stands twice"):
        Categories.from_json([*COCO_LIKE, COCO_LIKE[0]])


def test_unknown_id_is_named() -> None:
    with pytest.raises(KeyError, match="category id 3 is not among this data set's 4"):
        Categories.from_json(COCO_LIKE).index(3)


def test_numbered() -> None:
    categories = Categories.numbered(2, 3)
    assert (categories.num_stuff, categories.num_thing) == (2, 3)
    assert [categories.index(c.id) for c in categories] == list(range(5))
    assert Categories.numbered(0, 1).num_stuff == 0


def test_difference_says_what_differs_first() -> None:
    a = Categories.from_json(COCO_LIKE)
    renamed = Categories.from_json([{**c, "name": "lady"} if c["id"] == 1 else c for c in COCO_LIKE])
    recolored = Categories.from_json([{**c, "color": [9, 9, 9]} for c in COCO_LIKE])
    assert a.difference(a) == a.difference(recolored) == ""
    assert a.difference(renamed) == "class 'person' (id 1) against 'lady' (id 1)"
    assert a.difference(Categories.from_json(COCO_LIKE[:3])) == "2 stuff + 2 things against 1 stuff + 2 things"


def test_colors_are_distinct_and_in_range() -> None:
    colors = [golden_color(n) for n in range(133)]
    assert len(set(colors)) == 133 and all(0 <= v <= 255 for c in colors for v in c)


def test_ignore_is_no_channel() -> None:
    assert IGNORE < 0
