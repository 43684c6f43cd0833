"""Classes: COCO category ids on disk <-> the contiguous class index used by X.

class index    0 ... N_stuff-1 stuff,  N_stuff ... N_stuff+N_thing-1 things,  each by ascending category id
C (classes)    things only, 0 ... N_thing-1:  class index - N_stuff
labels         torchvision's: C + 1, because 0 is its background
"""

import colorsys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

IGNORE = -100  # PyTorch's own default; 255 would collide with a channel of Z once N_stuff + N_inst > 255


@dataclass(frozen=True)
class Category:
    """One class: `id` as in the JSON, `name`, `color` (red, green, blue in 0-255), `isthing`."""

    id: int
    name: str
    color: tuple[int, int, int]
    isthing: bool
    supercategory: str = ""


@dataclass(frozen=True)
class Categories:
    """The classes of a data set in class-index order: `categories[class_index] -> Category`."""

    classes: tuple[Category, ...]

    def __post_init__(self) -> None:
        ids = [c.id for c in self.classes]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise ValueError(f"category id {twice[0]} stands twice in the categories; give each class its own id")
        object.__setattr__(self, "classes", tuple(sorted(self.classes, key=lambda c: (c.isthing, c.id))))
        object.__setattr__(self, "_index", {c.id: i for i, c in enumerate(self.classes)})

    @classmethod
    def from_json(cls, entries: Iterable) -> "Categories":
        """From COCO's `categories` list. A missing colour is drawn from the golden angle, so neighbours differ.

        Raises ValueError naming the entry that is no object or lacks `id`, `name` or `isthing`.
        """
        found = []
        for n, entry in enumerate(entries):
            try:
                color = tuple(entry.get("color", golden_color(n)))
                if not is_color(color):
                    raise ValueError("color is not [red, green, blue], each 0 ... 255")
                found.append(
                    Category(
                        int(entry["id"]),
                        str(entry["name"]),
                        color,
                        bool(entry["isthing"]),
                        str(entry.get("supercategory", "")),
                    )
                )
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise ValueError(
                    f"category number {n} is not a COCO panoptic category ({error!r}): {entry!r}"
                ) from None
        return cls(tuple(found))

    @classmethod
    def numbered(cls, num_stuff: int, num_thing: int) -> "Categories":
        """Nameless classes whose id is the class index: what a model has before it has seen a data set."""
        total = num_stuff + num_thing
        return cls(
            tuple(
                Category(
                    i, f"stuff {i}" if i < num_stuff else f"thing {i - num_stuff}", golden_color(i), i >= num_stuff
                )
                for i in range(total)
            )
        )

    def to_json(self) -> list[dict]:
        """COCO's `categories` list, ready for json.dump."""
        return [
            {
                "id": c.id,
                "name": c.name,
                "color": list(c.color),
                "isthing": int(c.isthing),
                "supercategory": c.supercategory,
            }
            for c in self.classes
        ]

    @property
    def num_stuff(self) -> int:
        return sum(not c.isthing for c in self.classes)

    @property
    def num_thing(self) -> int:
        return sum(c.isthing for c in self.classes)

    @property
    def stuff(self) -> tuple[Category, ...]:
        return self.classes[: self.num_stuff]

    @property
    def things(self) -> tuple[Category, ...]:
        return self.classes[self.num_stuff :]

    def index(self, category_id: int) -> int:
        """Class index of a category id; KeyError naming the id where the data set has no such category."""
        try:
            return self._index[category_id]
        except KeyError:
            raise KeyError(f"category id {category_id} is not among this data set's {len(self)} categories") from None

    def difference(self, other: "Categories") -> str:
        """'' where both name the same ids, names and kinds; otherwise what differs first, in words."""
        if (self.num_stuff, self.num_thing) != (other.num_stuff, other.num_thing):
            return (
                f"{self.num_stuff} stuff + {self.num_thing} things against "
                f"{other.num_stuff} stuff + {other.num_thing} things"
            )
        for a, b in zip(self.classes, other.classes, strict=True):
            if (a.id, a.name) != (b.id, b.name):
                return f"class '{a.name}' (id {a.id}) against '{b.name}' (id {b.id})"
        return ""

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.classes)

    def __getitem__(self, class_index: int) -> Category:
        return self.classes[class_index]

    def __contains__(self, category_id: object) -> bool:
        return category_id in self._index


def is_color(value: object) -> bool:
    """[red, green, blue] in whole numbers from 0 to 255."""
    whole = isinstance(value, list | tuple) and len(value) == 3 and all(type(v) is int for v in value)
    return whole and all(0 <= v <= 255 for v in value)


def golden_color(n: int) -> tuple[int, int, int]:
    """The n-th of endlessly many distinguishable colours: hue advances by the golden angle, value alternates."""
    red, green, blue = colorsys.hsv_to_rgb((n * 0.381966) % 1, 0.55 + 0.3 * (n % 2), 0.95 - 0.15 * (n // 2 % 3))
    return round(red * 255), round(green * 255), round(blue * 255)
