"""Is everything installed? One line per package: OK, or what to do.     python -m upsnet_lite.environment [EXTRA ...]

The list is pyproject.toml's own, as pip recorded it. Every package is imported: a torchvision built for another torch
is installed but does not import, which is the commonest way for a set-up to be broken.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata

# Not in pyproject.toml, because its metadata asks for numpy<2; the Makefile installs it alone.
PANOPTICAPI = "panopticapi-lite==0.2.0"


@dataclass(frozen=True)
class Package:
    """`name` as pip knows it, `wanted` as in pyproject.toml, version `found` ('' if absent), `problem` ('' if OK)."""

    name: str
    wanted: str
    found: str
    problem: str

    def __str__(self) -> str:
        return f"{'FAIL' if self.problem else 'OK':4} {self.name:18} {self.found or '-':12} {self.problem}".rstrip()


def requirements(*extras: str) -> Iterator[str]:
    """The requirements of the core and of the named extras, each once; KeyError for an extra that does not exist."""
    from packaging.requirements import Requirement

    known = set(metadata.metadata("upsnet-lite").get_all("Provides-Extra") or ())
    if unknown := set(extras) - known:
        raise KeyError(f"no extra {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")
    found = {}
    for requirement in map(Requirement, metadata.requires("upsnet-lite") or ()):
        if not requirement.marker or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            found[requirement.name] = f"{requirement.name}{requirement.specifier}"
    yield from found.values()
    if "pycocotools" in found:
        yield PANOPTICAPI


def check(*extras: str) -> list[Package]:
    """The state of every package that the core and the named extras need."""
    modules: dict[str, list[str]] = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            modules.setdefault(_plain(name), []).append(module)
    try:
        return [_check(line, modules) for line in requirements(*extras)]
    except metadata.PackageNotFoundError:  # imported from its folder: nobody knows what it needs
        return [Package("upsnet-lite", "", "", "is not installed: type `make lab` in the project's folder")]


def _check(line: str, modules: dict[str, list[str]]) -> Package:
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    name, wanted = requirement.name, str(requirement.specifier)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name, wanted, "", f"is not installed: pip install '{line}'")
    if not requirement.specifier.contains(found, prereleases=True):
        return Package(name, wanted, found, f"should be {wanted}: pip install '{line}'")
    try:
        for module in _public(name, modules.get(_plain(name), [])):
            import_module(module)
    except Exception as error:  # whatever an import can raise; the user is to see all of the table
        reason = " ".join(str(error).split())[:80]
        return Package(name, wanted, found, f"does not import ({reason}): pip install --force-reinstall '{line}'")
    return Package(name, wanted, found, "")


def _public(name: str, modules: list[str]) -> list[str]:
    """Of a distribution's top-level modules the one that bears its name, otherwise all public ones."""
    same = [m for m in modules if _plain(m) == _plain(name)]
    return same or [m for m in modules if not m.startswith("_")]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


if __name__ == "__main__":
    packages = check(*sys.argv[1:])
    broken = [p for p in packages if p.problem]
    for package in broken:
        print(package, file=sys.stderr)
    print(f"{len(packages) - len(broken)} of {len(packages)} packages OK")
    sys.exit(bool(broken))
