"""The pictures in the documentation are made by a command, and are small."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from examples.bank.screenshots import IMAGES, MAX_BYTES, PICTURES, chromium_path, take

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_pictures_can_be_made_anew(tmp_path: Path) -> None:
    """The command makes exactly those that the documentation has."""
    path = chromium_path()
    if path is None:
        pytest.skip("NO BROWSER TEST WAS RUN: there is no chromium here.")
    with ThreadPoolExecutor(1) as elsewhere:
        sizes = elsewhere.submit(take, path, tmp_path).result()
    assert set(sizes) == {picture.name for picture in PICTURES}
    assert max(sizes.values()) <= MAX_BYTES
    shown = list(IMAGES.glob("*.png"))
    assert {each.name for each in shown} == set(sizes)
    for each in shown:
        assert each.read_bytes().startswith(PNG)
        assert each.stat().st_size <= MAX_BYTES


def test_the_documentation_shows_every_picture() -> None:
    """And says in words what is on it."""
    page = (IMAGES.parent / "demo.md").read_text(encoding="utf-8")
    for picture in PICTURES:
        before, found, _ = page.partition(f"](images/{picture.name})")
        assert found, picture.name
        assert len(before.rpartition("![")[2]) > 60
