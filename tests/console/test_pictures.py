"""The pictures in the docs. With CONSOLE_PICTURES=1 they are taken anew into docs/images."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.console.conftest import ADMIN_KEY, DESKTOP, PHONE, Operated
from tests.console.test_operate import ask

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    return IMAGES if os.environ.get("CONSOLE_PICTURES") else tmp_path


def take(page: Page, path: Path, width: int) -> None:
    page.mouse.move(0, 0)
    page.evaluate("document.fonts.ready")
    page.screenshot(path=path)
    head = path.read_bytes()[:24]
    assert struct.unpack(">II", head[16:24])[0] == width
    assert path.stat().st_size > 30_000, "not an empty page"
    assert (IMAGES / path.name).is_file(), "docs show it: take it with CONSOLE_PICTURES=1"


def decided(page: Page) -> Page:
    expect(page.locator(".chosen-name")).to_contain_text("smollm2")
    page.locator("details").evaluate("e => e.open = true")
    page.get_by_role("slider", name="Cost", exact=True).fill("2")
    expect(page.locator(".equally-good")).to_be_visible()
    expect(page.locator(".explanation")).to_contain_text("quality decided")
    page.evaluate("document.activeElement.blur()")
    return page


@pytest.mark.parametrize(("name", "theme"), [("console", "light"), ("console-dark", "dark")])
def test_the_decision(
    open_page: Callable[..., Page], operated: Operated, album: Path, name: str, theme: str
) -> None:
    page = open_page(f"{operated.url}/console/", operated.key, color_scheme=theme)
    take(decided(page), album / f"{name}.png", DESKTOP["width"])


def test_on_a_phone(open_page: Callable[..., Page], operated: Operated, album: Path) -> None:
    page = open_page(
        f"{operated.url}/console/", operated.key, viewport=PHONE, device_scale_factor=2
    )
    decided(page)
    page.locator("details").evaluate("e => e.open = false")
    page.locator(".verdict-panel").evaluate("e => scrollTo(0, e.offsetTop - 96)")
    take(page, album / "console-phone.png", 2 * PHONE["width"])


def test_two_answers(open_page: Callable[..., Page], operated: Operated, album: Path) -> None:
    page = open_page(f"{operated.url}/console/", operated.key)
    decided(page)
    page.get_by_role("spinbutton").fill("48")
    page.get_by_role("button", name="Run", exact=True).click()
    for lane in page.locator(".lane").all():
        expect(lane).to_have_class(re.compile("done"), timeout=40_000)
    page.get_by_role("heading", name="Run it").evaluate(
        "e => scrollTo(0, e.getBoundingClientRect().top + scrollY - 90)"
    )
    take(page, album / "console-run.png", DESKTOP["width"])


def test_traffic(open_page: Callable[..., Page], operated: Operated, album: Path) -> None:
    for prompt in (
        "A train leaves at 3 and arrives at 5. How long does it travel?",
        "Write a Python function that adds two numbers.",
        "The patient presents with fever and a stiff neck.",
        "The apparatus of claim 1, wherein the first member is hollow.",
        "Tom has 12 apples and eats 5. How many are left?",
    ):
        answer = ask(
            operated.url,
            operated.key,
            messages=[{"role": "user", "content": prompt}],
            routing={"weights": {"cost": 0.05}},
        )
        assert answer.status_code == 200
    page = open_page(f"{operated.admin_url}/console/#/traffic", ADMIN_KEY)
    expect(page.get_by_role("region", name="Recent requests, table")).to_contain_text("best: ")
    take(page, album / "console-traffic.png", DESKTOP["width"])
