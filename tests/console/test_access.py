"""Everybody can use it: axe finds nothing in any theme at any width, and the keyboard suffices."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.console.conftest import ADMIN_KEY, DESKTOP, PHONE, Operated

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]

GATEWAY_VIEWS = ("try", "traffic", "models")
ADMIN_VIEWS = ("traffic", "models", "keys", "usage", "config")


def violations(page: Page, axe: Path) -> list[str]:
    page.evaluate(axe.read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {n['target']} {n['failureSummary']}"
        for v in found["violations"]
        for n in v["nodes"]
    ]


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(
    open_page: Callable[..., Page],
    operated: Operated,
    app_modules: Path,
    theme: str,
    viewport: dict[str, int],
) -> None:
    axe = app_modules / "axe-core" / "axe.min.js"
    look = {"color_scheme": theme, "viewport": viewport}
    page = open_page(f"{operated.url}/console/", operated.key, **look)
    for view in GATEWAY_VIEWS:
        page.goto(f"{operated.url}/console/#/{view}")
        expect(page.locator("main .panel").first).to_be_visible()
        if view == "try":
            expect(page.locator(".chosen-name")).to_contain_text("smollm2")
            page.locator("details").evaluate("e => e.open = true")
            page.get_by_role("slider", name="Cost", exact=True).fill("3")
            page.get_by_role("slider", name="Quality at least").fill("41")
            expect(page.locator(".point.out").first).to_be_visible()
        assert violations(page, axe) == [], view
        assert fits(page), view
    page = open_page(f"{operated.admin_url}/console/", ADMIN_KEY, **look)
    for view in ADMIN_VIEWS:
        page.goto(f"{operated.admin_url}/console/#/{view}")
        expect(page.locator("main .panel").first).to_be_visible()
        assert violations(page, axe) == [], view
        assert fits(page), view
    locked = open_page(f"{operated.admin_url}/console/", **look)
    expect(locked.get_by_label("Admin key")).to_be_visible()
    assert violations(locked, axe) == []


def press_until(page: Page, holds: str, key: str = "Tab", most: int = 60) -> None:
    """Press a key until the focused element matches; every stop on the way must be seen."""
    for _ in range(most):
        page.keyboard.press(key)
        state = page.evaluate(
            "(holds) => { const e = document.activeElement; const r = e.getBoundingClientRect();"
            " return [e.matches(holds), r.width > 0 && r.height > 0, e.outerHTML.slice(0, 120)] }",
            holds,
        )
        assert state[1], f"focus is on what cannot be seen: {state[2]}"
        if state[0]:
            return
    raise AssertionError(f"{key} never led to {holds}")


def test_the_keyboard_suffices(open_page: Callable[..., Page], operated: Operated) -> None:
    page = open_page(f"{operated.url}/console/")
    expect(page.get_by_label("API key")).to_be_visible()
    press_until(page, "input[type=password]")
    page.keyboard.type(operated.key)
    page.keyboard.press("Enter")
    expect(page.locator(".chosen-name")).to_have_text("smollm2-135m-math")
    press_until(page, ".skip")
    page.keyboard.press("Enter")
    press_until(page, "textarea")
    page.keyboard.press("Control+A")
    page.keyboard.type("Write a Python function that reverses a list.")
    expect(page.locator(".chosen-name")).to_have_text("smollm2-135m-code")
    press_until(page, "#weight-cost")
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    expect(page.locator("output[for=weight-cost]")).to_have_text("0.24")
    expect(page.locator(".chosen-name")).to_have_text("smollm2-135m")
    press_until(page, ".point")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.model") == "smollm2-135m-math"
    expect(page.locator(".card")).to_contain_text("smollm2-135m-math")
    page.keyboard.press("Enter")
    press_until(page, "input[type=number]")
    page.keyboard.press("Control+A")
    page.keyboard.type("8")
    press_until(page, "button[type=submit]")
    page.keyboard.press("Enter")
    for lane in page.locator(".lane").all():
        expect(lane).to_have_class(re.compile("done"), timeout=40_000)
    expect(page.locator(".lane header").nth(1)).to_contain_text("smollm2-135m-math")
    press_until(page, ".thumbs button")
    page.keyboard.press("Enter")
    expect(page.locator(".lane").first).to_contain_text("Noted with its decision.")
    open_page.troubles.clear()  # type: ignore[attr-defined]  # the browser tells of the first 401


def test_the_theme_is_kept_and_the_system_decides_without_one(
    open_page: Callable[..., Page], operated: Operated
) -> None:
    page = open_page(f"{operated.url}/console/", operated.key, color_scheme="dark")
    expect(page.locator(".chosen-name")).to_contain_text("smollm2")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("combobox", name="Theme").select_option("light")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(page.locator(".chosen-name")).to_contain_text("smollm2")
    assert page.evaluate(ground) == light
    page.get_by_role("combobox", name="Theme").select_option("system")
    assert page.evaluate(ground) == dark
