"""Numbers of one's own: where an exercise asks for a number, it depends on who is asked.

STUDENT stands at the top of the notebook. When a class is graded, UPSNET_STUDENT (the folder's name) takes its place,
and UPSNET_CLASS names all students, one a line: an answer that fits somebody else's variant is recognised.
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable
from typing import Any

from upsnet_lite.course.feedback import Mistake, same

EXAMPLE = "ada"  # the name that a released notebook comes with


def student(name: str) -> str:
    """Whose variant counts: UPSNET_STUDENT where it is set, otherwise `name`."""
    return os.environ.get("UPSNET_STUDENT") or name


def seed(student: str) -> int:
    """The same number for the same name, on every machine; capitals and spaces around do not matter.

    Nor does it matter whether an accented letter is one character or two: macOS writes two in a folder's name.
    """
    name = unicodedata.normalize("NFC", student.strip().lower())
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def own(found: Any, answer: Callable[[int], Any], student: str, what: str, told: str = "") -> None:
    """Mistake unless found is answer(seed(student)); the answer to another student's variant is called that.

    told: what is said of any other wrong answer; never the right one.
    """
    if not same(found, answer(seed(student))):
        others = [EXAMPLE, *os.environ.get("UPSNET_CLASS", "").splitlines()]
        for other in others:
            if other and seed(other) != seed(student) and same(found, answer(seed(other))):
                raise Mistake(
                    f"{what}: this is the answer of {other!r}, who has other numbers; yours are those of {student!r}"
                )
        raise Mistake(told or f"{what}: yours is not right; work it out once more (the right number is not told here)")
