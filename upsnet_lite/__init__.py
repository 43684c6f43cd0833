"""UPSNet, taken apart tensor by tensor.

    from upsnet_lite import UPSNet, load
    model = load("tiny-shapes")                                        shipped with the package
    model = UPSNet.from_preset("tiny", num_stuff=5, num_thing=5)       presets() names the others

A name is imported when it is first used, so `import upsnet_lite` costs nothing and a part of it only its own needs.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["UPSNet", "load", "presets"]
_HOME = {"UPSNet": "model", "load": "weights"}


def presets() -> tuple[str, ...]:
    """Names that `UPSNet.from_preset` knows."""
    from .config import PRESETS

    return tuple(PRESETS)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'upsnet_lite' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
