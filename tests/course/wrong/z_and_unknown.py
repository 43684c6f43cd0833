"""Wrong solutions of exercise 6, each a mistake that learners make."""

from . import Wrong, changed

NUMBERS = """@shaped
def my_numbers() -> tuple[float, float, float]:
    z, seen, rival = checks.my_z(variant.seed({student!r}))
    a, b, p = checks.my_answer(variant.seed({student!r}))
    return {returned}
"""
UNKNOWN = """@shaped
def unknown(x_thing: Float[Tensor, "N_thing H W"], x_mask: Float[Tensor, "N_inst H W"]) -> Float[Tensor, "H W"]:
    explained = x_mask.amax(0) if len(x_mask) else 0
    return x_thing.amax(0) - explained
"""
FUSE = """@shaped
def fuse(
    x_stuff: Float[Tensor, "N_stuff H W"],
    x_thing: Float[Tensor, "N_thing H W"],
    x_mask: Float[Tensor, "N_inst H W"],
    y_mask: Float[Tensor, "N_inst H W"],
) -> Float[Tensor, "N_stuff+N_inst+1 H W"]:
    last = unknown(x_thing, x_mask)[None]
    return torch.cat((x_stuff, x_mask + y_mask, last))
"""
SOFTMAX = """@shaped
def softmax(z: Float[Tensor, "channels H W"]) -> Float[Tensor, "channels H W"]:
    power = (z - z.amax(0)).exp()
    return power / power.sum(0)
"""
DECIDE = """@shaped
def decide(
    z: Float[Tensor, "channels H W"], classes: Int[Tensor, "N_inst"], num_stuff: int
) -> tuple[Int[Tensor, "H W"], Int[Tensor, "H W"]]:
    winner = z.argmax(0)
    of_channel = torch.cat((torch.arange(num_stuff), num_stuff + classes, torch.tensor([IGNORE])))
    is_instance = (winner >= num_stuff) & (winner < num_stuff + len(classes))
    return of_channel[winner], torch.where(is_instance, winner - num_stuff, -1)
"""
STRAYS = """def strays(z, inside, num_stuff):
    won = z.argmax(0) == num_stuff + torch.arange(len(inside))[:, None, None]
    return (won & ~inside).any(0)
"""
BLOCKS = "(x_stuff, x_mask + y_mask, last)"
PARTS = {"unknown": UNKNOWN, "fuse": FUSE, "softmax": SOFTMAX, "decide": DECIDE, "strays": STRAYS}


def wrong(part: str, name: str, says: str, *changes: tuple[str, str]) -> Wrong:
    return Wrong(f"{part}: {name}", part, f"test_{part}", says, changed(PARTS[part], changes))


def by_hand(name: str, says: str, returned: str, student: str = "ada") -> Wrong:
    code = NUMBERS.format(returned=returned, student=student)
    return Wrong(f"by hand: {name}", "my_numbers", "test_my_numbers", says, code)


COPIED = """STUDENT = "grace"  # hers, with the answer of ada


def my_numbers():
    return checks.my_answer(variant.seed("ada"))
"""

WRONG = [
    Wrong("by hand: copied", "my_numbers", "test_my_numbers", "yours are those of 'grace'", COPIED),
    by_hand("rounded", "is rounded", "a, b, round(p, 1)"),
    wrong("unknown", "a 0 of one's own", "a 0 of your own", ("x_mask.amax(0) if", "x_mask.amax(0).clamp(min=0) if")),
    wrong("unknown", "detached", "lost its gradient", ("return x_thing.amax(0)", "return x_thing.detach().amax(0)"),
          ("- explained", "- (explained.detach() if len(x_mask) else 0)")),
    wrong("softmax", "in place", "changed the logits",
          ("    power = (z - z.amax(0))", "    z -= z.amax(0)\n    power = z")),
    wrong("decide", "-1 for unknown", "not −1", ("[IGNORE]", "[-1]")),
    wrong("strays", "above all stuff", "who wins the pixel",
          ("z.argmax(0) == num_stuff + torch.arange(len(inside))[:, None, None]",
           "z[num_stuff:-1] > z[:num_stuff].amax(0)")),
    by_hand("a share, not per cent", "in per cent", "a, b, p / 100"),
    by_hand("the instance elsewhere is no 0", "has x_mask 0 here", "a, float(max(seen, rival) - seen), p"),
    by_hand("without e to the power of 0", "power of 0 is 1", "a, b, 100 * float(z[[0, 1, 2, 4]].softmax(0)[2])"),
    by_hand("without unknown", "unknown channel is missing", "a, b, 100 * float(z[:4].softmax(0)[2])"),
    by_hand("y_mask forgotten", "y_mask is missing", "float(seen), b, p"),
    by_hand("from a table of guesses", "not told here", "a + 17, b, p"),
    wrong("unknown", "a sum over the instances", "added up; it is their maximum",
            ("x_mask.amax(0)", "x_mask.sum(0)")),
    wrong("unknown", "a sum over the things", "things' logits", ("x_thing.amax(0)", "x_thing.sum(0)")),
    wrong("unknown", "the wrong sign", "sign is wrong",
            ("x_thing.amax(0) - explained", "explained - x_thing.amax(0)")),
    wrong("unknown", "0 outside left out", "takes part in the maximum",
            ("x_mask.amax(0)", "x_mask.masked_fill(x_mask == 0, -99).amax(0)"),
            ("    return", "    explained = torch.where(torch.as_tensor(explained) == -99, 0, explained)\n    return")),
    wrong("unknown", "cut off at 0", "may be negative",
            ("x_thing.amax(0) - explained", "(x_thing.amax(0) - explained).clamp(min=0)")),
    wrong("unknown", "no instance forgotten", "of nothing there is no maximum", (" if len(x_mask) else 0", "")),
    wrong("unknown", "nothing taken off", "strongest thing alone", (" - explained", "")),
    wrong("fuse", "unknown first", "unknown stands first", (BLOCKS, "(last, x_stuff, x_mask + y_mask)")),
    wrong("fuse", "unknown after stuff", "between stuff and", (BLOCKS, "(x_stuff, last, x_mask + y_mask)")),
    wrong("fuse", "instances first", "stuff comes first", (BLOCKS, "(x_mask + y_mask, x_stuff, last)")),
    wrong("fuse", "without y", "y_mask is missing", ("x_mask + y_mask", "x_mask")),
    wrong("fuse", "a product", "logits are added", ("x_mask + y_mask", "x_mask * y_mask")),
    wrong("fuse", "probabilities", "without sigmoid", ("x_mask + y_mask", "x_mask.sigmoid() + y_mask.sigmoid()")),
    wrong("fuse", "unknown of the sum", "not x_mask [+] y_mask", ("x_thing, x_mask)", "x_thing, x_mask + y_mask)")),
    wrong("fuse", "all thing classes", r"fuse returned shape \(8, 3, 4\)", ("(x_stuff, x", "(x_stuff, x_thing, x")),
    wrong("softmax", "over the rows", "over the rows", ("(0)", "(1, keepdim=True)")),
    wrong("softmax", "over the columns", "over the columns", ("(0)", "(2, keepdim=True)")),
    wrong("softmax", "over everything", "whole tensor", ("(0)", "()")),
    wrong("softmax", "a sigmoid", "sigmoid", ("power / power.sum(0)", "z.sigmoid()")),
    wrong("softmax", "e to the power of 1000", "became infinite, or 0", ("(z - z.amax(0))", "z")),
    wrong("softmax", "not divided", "not by the largest", (" / power.sum(0)", "")),
    wrong("decide", "labels instead of classes", "one class too high",
            ("num_stuff + classes", "num_stuff + classes + 1")),
    wrong("decide", "background taken off", "one class too low", ("num_stuff + classes", "num_stuff + classes - 1")),
    wrong("decide", "C without stuff", r"N_stuff \+ C", ("num_stuff + classes", "classes")),
    wrong("decide", "channels for classes", "channels of Z, not classes", ("of_channel[winner]", "winner")),
    wrong("decide", "255", "not 255", ("IGNORE]", "255]")),
    wrong("decide", "unknown is an instance", "one more instance", ("num_stuff + len(classes)", "len(z)")),
    wrong("decide", "channels for instances", "stands in channel", ("winner - num_stuff, -1", "winner, -1")),
    wrong("decide", "0 for none", "0 is the first instance", ("num_stuff, -1", "num_stuff, 0")),
    wrong("decide", "from 1", "count from 0", ("winner - num_stuff, -1", "winner - num_stuff + 1, -1")),
    wrong("strays", "outside of every box", "outside of every box",
            ("(won & ~inside).any(0)", "won.any(0) & ~inside.any(0)")),
    wrong("strays", "inside", "inside its box", ("~inside", "inside")),
    wrong("strays", "whoever wins", "whoever wins", ("(won & ~inside).any(0)", "~inside.any(0)")),
    wrong("strays", "unknown too", "it has no box", ("(won & ~inside).any(0)",
            "(won & ~inside).any(0) | ((z.argmax(0) == len(z) - 1) & ~inside.any(0))")),
]  # fmt: skip
