"""What the server behind `upsnet-lite explore` hands out: one page, to whom has the token."""

from urllib.error import HTTPError
from urllib.request import urlopen

import pytest


def status(url: str) -> int:
    try:
        return urlopen(url, timeout=20).status
    except HTTPError as error:
        return error.code


def test_nothing_without_the_token(explore):
    for url in (explore.split("?")[0], explore.split("?")[0] + "?token=guess"):
        try:
            with urlopen(url, timeout=20) as answer:  # a form that asks for the token
                assert "/login" in answer.url and "page()" not in answer.read().decode()
        except HTTPError as error:
            assert error.code in (401, 403)


@pytest.mark.parametrize(
    "path",
    [
        "voila/files/explore.ipynb",
        "voila/files/canvas.js",
        "voila/files/../explore.py",
        "voila/files/%2e%2e/%2e%2e/%2e%2e/docs/unknown.png",
        "voila/files//etc/hostname",
        "voila/tree",
        "voila/render/explore.ipynb",
        "api/contents",
        "voila/api/contents",
        "files/explore.ipynb",
        "etc/passwd",
    ],
)
def test_nothing_else_of_the_machine(explore, path):
    base, token = explore.split("?")
    assert status(f"{base}{path}?{token}") in (403, 404)
