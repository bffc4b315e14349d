"""Try a prompt: see the decision, move it, run it, score it, take it along."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.sync_api import expect

from tests.console.conftest import Operated, serve_operated
from tests.demo_process import Demo

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]

MATH, BASE, CODE = "smollm2-135m-math", "smollm2-135m", "smollm2-135m-code"


def slide(page: Page, name: str, stop: int) -> None:
    page.get_by_role("slider", name=name, exact=True).fill(str(stop))


def chosen(page: Page) -> Any:
    return page.locator(".chosen-name")


def decided(page: Page) -> dict[str, Any]:
    """The decision that the page gets next."""
    with page.expect_response(lambda r: r.url.endswith("/v1/route")) as told:
        page.get_by_role("textbox", name="Prompt").press("End")
        page.get_by_role("textbox", name="Prompt").type(" ")
    return dict(told.value.json())


@pytest.fixture
def page(open_page: Callable[..., Page], operated: Operated) -> Page:
    opened = open_page(f"{operated.url}/console/", operated.key)
    expect(chosen(opened)).to_have_text(MATH)
    return opened


def test_without_any_set_up_a_prompt_shows_where_it_would_go(
    open_page: Callable[..., Page], demo: Demo
) -> None:
    page = open_page(f"{demo.url}/console/")
    expect(chosen(page)).to_have_text(MATH)
    page.get_by_role("button", name="Code", exact=True).click()
    expect(chosen(page)).to_have_text(CODE)
    told = decided(page)
    rows = page.get_by_role("region", name="Candidates, table").get_by_role("row")
    expect(rows).to_have_count(1 + len(told["candidates"]))
    expect(rows.nth(1)).to_contain_text(CODE)
    expect(page.get_by_text("Predicted cost: $0 for all")).to_be_visible()
    cost = page.get_by_role("slider", name="Cost", exact=True)
    expect(cost).to_have_accessible_description("the same for all, so it moves nothing")


def test_sliders_move_the_choice_as_the_gateway_would(page: Page) -> None:
    slide(page, "Cost", 51)
    expect(chosen(page)).to_have_text(BASE)
    slide(page, "Cost", 0)
    expect(page.locator(".equally-good")).to_have_count(0)
    slide(page, "Cost", 2)
    expect(chosen(page)).to_have_text(MATH)
    expect(page.locator(".equally-good")).to_have_count(1)
    # What the strip foretells at each stop is what the gateway then decides.
    for stop in (0, 4, 12, 40):
        slide(page, "Cost", stop)
        told = decided(page)
        expect(chosen(page)).to_have_text(told["chosen"])
        strip = page.get_by_role("slider", name="Cost", exact=True).locator(
            "xpath=following-sibling::div[1]"
        )
        spans = strip.locator("span").evaluate_all(
            "els => els.map(e => [e.title, parseFloat(e.style.left), parseFloat(e.style.width)])"
        )
        place = 100 * stop / 51
        here = [model for model, left, width in spans if left <= place <= left + width]
        assert here == [told["chosen"]], (stop, spans)


def test_a_profile_sets_the_weights(page: Page) -> None:
    page.get_by_role("combobox", name="Profile").select_option("cheap")
    expect(chosen(page)).to_have_text(BASE)
    expect(page.get_by_role("slider", name="Cost", exact=True)).to_have_attribute(
        "aria-valuetext", re.compile("decides alone")
    )
    page.get_by_role("button", name="Reset").click()
    expect(chosen(page)).to_have_text(MATH)


def test_the_router_can_be_chosen(page: Page) -> None:
    with page.expect_request(lambda r: r.url.endswith("/v1/route")) as asked:
        page.get_by_role("combobox", name="Router").select_option("retriever")
    assert json.loads(asked.value.post_data or "")["routing"]["router"] == "retriever"
    expect(page.locator(".verdict-panel")).not_to_have_class(re.compile("asking"))
    assert decided(page)["effective_routing"]["router"] == "retriever"


def test_a_limit_rules_out_and_says_why(page: Page) -> None:
    slide(page, "Cost at most", 25)  # 22 millionths of a dollar
    row = page.get_by_role("row", name=re.compile(f"^{MATH} "))
    expect(row).to_contain_text(re.compile("cost at most .* µ\\$, has .* µ\\$"))
    expect(chosen(page)).not_to_have_text(MATH)
    expect(page.locator(f"[data-model={MATH}]")).to_have_class(re.compile("out"))
    slide(page, "Quality at least", 12)
    expect(chosen(page)).to_have_text("nobody")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    page.get_by_role("button", name=re.compile("^(Quality|Cost) at")).click()
    expect(chosen(page)).not_to_have_text("nobody")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()


def test_a_candidate_can_be_left_out_and_restored(page: Page) -> None:
    leave_out = page.get_by_role("button", name=f"Leave {MATH} out")
    leave_out.click()
    expect(chosen(page)).to_have_text(CODE)
    expect(page.get_by_role("row", name=re.compile(f"^{MATH} "))).to_contain_text("left out")
    leave_out.click()
    expect(chosen(page)).to_have_text(MATH)


def test_pilots_tell_similarity_and_outcomes(page: Page) -> None:
    told = decided(page)
    first = told["nearest_pilots"][0]
    card = page.locator(".pilot").first
    expect(card).to_contain_text(f"{first['similarity']:.2f}")
    expect(card).to_contain_text(first["example"][:60])
    expect(card.get_by_role("listitem")).to_have_count(len(first["models"]))
    best = min(first["models"], key=lambda m: m["mean"])
    expect(card.get_by_role("listitem").first).to_contain_text(
        re.compile(f"{best['model']}.*{best['mean']:.2f}")
    )


def test_two_models_answer_side_by_side_and_are_scored(page: Page, operated: Operated) -> None:
    before = len(scores(operated))
    page.get_by_role("combobox", name="beside").select_option(BASE)
    page.get_by_role("spinbutton").fill("12")
    page.get_by_role("button", name="Run", exact=True).click()
    lanes = page.locator(".lane")
    for lane, model in ((lanes.nth(0), MATH), (lanes.nth(1), BASE)):
        expect(lane).to_have_class(re.compile("done"), timeout=40_000)
        expect(lane.locator("header")).to_contain_text(model)
        assert lane.locator(".answer").inner_text().strip() not in {"", "Not run yet."}
        figures = lane.locator("dd").all_inner_texts()
        assert re.fullmatch(r"[\d.]+ m?s", figures[0]), figures
        assert 1 <= int(figures[2]) <= 12, figures
        assert re.fullmatch(r"[\d.]+ µ\$", figures[3]), figures
    row = page.get_by_role("row", name=re.compile(f"^{MATH} "))
    expect(row.get_by_role("cell").nth(3)).to_have_text(re.compile(r"[\d.]+ m?s"))  # now known
    lanes.nth(0).get_by_role("button", name="Good").click()
    lanes.nth(1).get_by_role("button", name="Bad").click()
    expect(lanes.nth(0).get_by_role("button", name="Good")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(lanes.nth(1)).to_contain_text("Noted with its decision.")
    deadline_s = time.monotonic() + 10
    while len(scores(operated)) < before + 2 and time.monotonic() < deadline_s:
        page.wait_for_timeout(50)
    assert scores(operated)[before:] == [1.0, 0.0]


def scores(operated: Operated) -> list[float]:
    """Every score in the decision log, in the order in which they were given."""
    records = map(json.loads, operated.log.read_text().splitlines())
    return [r["score"] for r in records if "score" in r]


def test_a_stream_can_be_stopped(page: Page) -> None:
    page.get_by_role("spinbutton").fill("2000")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".lane.streaming").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".lane.stopped").first).to_be_visible()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()


def test_the_request_shown_does_what_the_page_did(
    open_page: Callable[..., Page], demo: Demo
) -> None:
    page = open_page(f"{demo.url}/console/")
    page.get_by_role("spinbutton").fill("3")
    page.get_by_role("textbox", name="Prompt").fill('It\'s "half" of 48 \\ what?')
    page.get_by_role("button", name=f"Leave {MATH} out").click()
    shown = page.get_by_role("tabpanel")
    expect(shown).to_contain_text("deny")
    page.locator("section", has=page.get_by_role("heading", name="The same request")).get_by_role(
        "button", name="Cop"
    ).click()
    assert page.evaluate("navigator.clipboard.readText()") == shown.inner_text()
    answered = subprocess.run(
        ["bash", "-c", shown.inner_text()], capture_output=True, text=True, timeout=60, check=True
    )
    told = json.loads(answered.stdout)
    assert told["model"] != MATH
    assert told["usage"]["completion_tokens"] <= 3
    page.get_by_role("tab", name="Python").click()
    program = subprocess.run(
        [sys.executable, "-c", shown.inner_text()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert program.stdout.startswith("smollm2-135m")
    page.get_by_role("tab", name="Headers").click()
    name, _, value = shown.inner_text().partition(": ")
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    answer = httpx2.post(
        f"{demo.url}/v1/route", json=body, headers={name: value}, trust_env=False, timeout=10
    )
    assert answer.json()["effective_routing"]["models"]["deny"] == [MATH]


def test_a_router_or_gateway_in_trouble_is_told(page: Page, open_page: Callable[..., Page]) -> None:
    page.route("**/v1/route", lambda route: route.abort())
    page.get_by_role("textbox", name="Prompt").fill("Anything else")
    expect(page.get_by_role("alert")).to_have_text("The gateway does not answer.")
    page.unroute("**/v1/route")
    page.get_by_role("textbox", name="Prompt").fill("Anything else?")
    expect(chosen(page)).to_contain_text("smollm2")
    open_page.troubles.clear()  # type: ignore[attr-defined]  # the browser tells of the lost request


def test_sliders_start_where_the_operators_policy_stands(
    open_page: Callable[..., Page], demo: Demo, tmp_path: Path
) -> None:
    live = {"objective": "balanced", "max_cost_usd": 0.0002}
    with serve_operated(demo, tmp_path, policies={"live": live}) as served:
        page = open_page(f"{served.url}/console/", served.key)
        expect(page.locator("output[for=weight-cost]")).to_have_text("0.20")
        expect(page.locator("output[for=limit-max_cost_usd]")).to_have_text("200 µ$")
        expect(chosen(page)).to_have_text(BASE)
        expect(page.locator(f"[data-model={MATH}]")).to_have_class(re.compile("out"))
        spans = page.get_by_role("slider", name="Cost", exact=True).locator(
            "xpath=following-sibling::div[1]/span"
        )
        # By quality alone code is best of those that keep the limit.
        expect(spans.first).to_have_attribute("title", CODE)
        slide(page, "Cost", 0)
        expect(chosen(page)).to_have_text(CODE)
        slide(page, "Cost at most", 60)
        expect(page.locator("output[for=limit-max_cost_usd]")).to_have_text("200 µ$")
        page.get_by_role("combobox", name="Profile").select_option("best")
        slide(page, "Cost at most", 50)
        expect(chosen(page)).to_have_text(MATH)
