"""What operators see: traffic, models, the configuration, keys; and who sees none of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.sync_api import expect

from tests.console.conftest import ADMIN_KEY, Operated
from tests.demo_process import Demo

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]


def ask(url: str, key: str = "", **fields: Any) -> httpx2.Response:
    body = {
        "model": "auto",
        "max_tokens": 3,
        "messages": [{"role": "user", "content": "What is 3 plus 4?"}],
        **fields,
    }
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx2.post(
        f"{url}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=60
    )


def test_traffic_comes_in_while_one_looks(open_page: Callable[..., Page], demo: Demo) -> None:
    page = open_page(f"{demo.url}/console/#/traffic")
    rows = page.get_by_role("region", name="Recent requests, table").get_by_role("row")
    request_id = ask(demo.url).headers["x-request-id"]
    opener = rows.nth(1).get_by_role("button")
    expect(opener).to_be_visible()
    opener.click()
    expect(rows.nth(2)).to_contain_text(request_id)
    opener.click()
    page.get_by_role("button", name="Pause").click()
    before = rows.count()
    ask(demo.url, model="smollm2-135m")
    page.wait_for_timeout(2500)
    assert rows.count() == before
    page.get_by_role("button", name="Go on").click()
    expect(rows).to_have_count(before + 1)
    page.get_by_role("combobox", name="of").select_option("smollm2-135m")
    expect(rows.nth(1)).to_contain_text("pinned")
    shares = page.get_by_role("region", name="Share of each model, table")
    expect(shares).to_contain_text("smollm2-135m-math")
    expect(page.get_by_role("region", name="Savings against baselines, table")).to_contain_text(
        "always the best model"
    )


def test_a_newcomer_sees_models_backends_and_the_configuration(
    open_page: Callable[..., Page], demo: Demo
) -> None:
    page = open_page(f"{demo.url}/console/#/models")
    cards = page.locator(".model-card")
    expect(cards).to_have_count(5)
    expect(cards.first.get_by_role("listitem")).to_contain_text(re.compile("up.*127.0.0.1"))
    expect(page.get_by_role("button", name="Drain")).to_have_count(0)
    page.get_by_role("link", name="Configuration").click()
    page.get_by_role("searchbox", name="Find a setting").fill("first_token_s")
    expect(page.locator("pre")).to_have_text("first_token_s: 30")
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)


def test_a_gateway_with_keys_shows_nothing_before_one_and_nothing_of_operators_after(
    open_page: Callable[..., Page], operated: Operated
) -> None:
    page = open_page(f"{operated.url}/console/")
    field = page.get_by_label("API key")
    field.fill("sk-thalamus-wrong")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_have_text("The gateway does not accept that key.")
    field.fill(operated.key)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".chosen-name")).to_contain_text("smollm2")
    expect(page.get_by_role("link", name="Configuration")).to_have_count(0)
    page.get_by_role("link", name="Models").click()
    expect(page.locator(".model-card")).to_have_count(5)
    expect(page.locator(".backend")).to_have_count(0)
    kept = page.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
    assert operated.key not in kept, "the key stays in the tab"
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    open_page.troubles.clear()  # type: ignore[attr-defined]  # the browser tells of each 401


@pytest.fixture
def admin(open_page: Callable[..., Page], operated: Operated) -> Page:
    return open_page(f"{operated.admin_url}/console/#/keys", ADMIN_KEY)


def test_the_admin_port_asks_for_its_own_key(
    open_page: Callable[..., Page], operated: Operated
) -> None:
    page = open_page(f"{operated.admin_url}/")
    page.get_by_label("Admin key").fill(operated.key)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Admin key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Recent requests")).to_be_visible()
    expect(page.get_by_role("link", name="Try")).to_have_count(0)
    open_page.troubles.clear()  # type: ignore[attr-defined]  # the browser tells of each 401


def test_a_key_is_made_works_and_is_revoked(admin: Page, operated: Operated) -> None:
    admin.get_by_label("Name").fill("a colleague")
    admin.get_by_label("Models, comma between").fill("smollm2-135m-code")
    admin.get_by_label("Requests a minute").fill("30")
    admin.get_by_role("button", name="Make key").click()
    token = admin.locator(".token code").inner_text()
    row = admin.get_by_role("row", name=re.compile("^a colleague"))
    expect(row).to_contain_text("requests_per_minute: 30")
    expect(row).to_contain_text("active")
    for _ in range(40):  # known within two seconds
        answer = ask(operated.url, token)
        if answer.status_code != 401:
            break
        admin.wait_for_timeout(100)
    assert answer.headers["x-routing-model"] == "smollm2-135m-code"
    row.get_by_role("button", name="Revoke a colleague").click()
    row.get_by_role("button", name="Really revoke a colleague").click()
    expect(row).to_contain_text("revoked")
    assert token not in admin.content() or admin.locator(".token code").count() == 1


def test_a_key_that_cannot_be_made_says_why(admin: Page, open_page: Callable[..., Page]) -> None:
    admin.get_by_label("Name").fill("nobody")
    admin.get_by_label("Requests a minute").fill("0.5")
    admin.get_by_role("button", name="Make key").click()
    expect(admin.get_by_role("alert")).to_contain_text("policy: Expected `int")
    open_page.troubles.clear()  # type: ignore[attr-defined]  # the browser tells of the 400


def test_backends_are_drained_and_traffic_names_keys(admin: Page, operated: Operated) -> None:
    ask(operated.url, operated.key)
    admin.get_by_role("link", name="Traffic").click()
    expect(admin.get_by_role("columnheader", name="Key")).to_be_visible()
    key_id = operated.key.split("-")[2]
    expect(admin.get_by_role("cell", name=key_id).first).to_be_visible()
    admin.get_by_role("link", name="Models").click()
    admin.get_by_role("button", name="Drain").first.click()
    expect(admin.locator(".backend").first).to_contain_text("drained")
    assert ask(operated.url, operated.key).status_code == 503
    admin.get_by_role("button", name="Undrain").first.click()
    expect(admin.locator(".backend").first).to_contain_text("up")
    assert ask(operated.url, operated.key).status_code == 200


def test_the_configuration_in_force_hides_secrets_and_is_reloaded(admin: Page) -> None:
    admin.get_by_role("link", name="Configuration").click()
    expect(admin.get_by_label("admin", exact=True)).to_contain_text('key: "***"')
    assert ADMIN_KEY not in admin.content()
    admin.get_by_role("button", name="Reload").click()
    expect(admin.get_by_role("status")).to_have_text("Reloaded")


def test_usage_is_added_up_as_the_command_does(admin: Page, operated: Operated) -> None:
    for model in ("smollm2-135m-code", "smollm2-135m-patents"):
        assert ask(operated.url, operated.key, model=model).status_code == 200
    admin.wait_for_timeout(1200)  # the ledger writes within a second
    admin.get_by_role("link", name="Usage").click()
    rows = admin.get_by_role("region", name="Usage, table").get_by_role("row")
    expect(rows.nth(1)).to_contain_text(operated.key.split("-")[2])
    expect(admin.locator(".column")).to_have_count(1)
    admin.get_by_role("combobox", name="Over time").select_option("in all")
    expect(admin.locator(".column")).to_have_count(0)
    admin.get_by_role("combobox", name="By").select_option("model")
    row = admin.get_by_role("row", name=re.compile("^smollm2-135m-patents"))
    expect(row).to_be_visible()
    told = httpx2.get(
        f"{operated.admin_url}/admin/usage?by=model",
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
        trust_env=False,
    ).json()["usage"]
    (patents,) = [line for line in told if line["group"]["model"] == "smollm2-135m-patents"]
    cells = row.get_by_role("cell").all_inner_texts()
    assert cells[0] == str(patents["requests"])
    assert cells[3] == str(patents["completion_tokens"])
    admin.get_by_label("Since, UTC").fill("2031-01-01")
    expect(admin.get_by_text("Nothing was used in this time.")).to_be_visible()


FOREIGN = "<img src=x onerror='document.title=1'><script>document.title=2</script>"


def test_words_from_outside_are_words(admin: Page) -> None:
    expect(admin).to_have_title("Keys · Thalamus")
    admin.get_by_label("Name").fill(FOREIGN)
    admin.get_by_role("button", name="Make key").click()
    expect(admin.get_by_role("rowheader", name=FOREIGN)).to_be_visible()
    assert admin.title() == "Keys · Thalamus"
    assert admin.locator("table img, table script").count() == 0


@pytest.mark.parametrize(
    ("attempt", "directive"),
    [
        (
            "const s = document.createElement('script'); s.textContent = '1'; body.append(s)",
            "script",
        ),
        ("const s = document.createElement('script'); s.src = elsewhere; body.append(s)", "script"),
        ("fetch(elsewhere).catch(() => {})", "connect"),
        ("const i = new Image(); i.src = elsewhere; body.append(i)", "img"),
        ("const f = document.createElement('iframe'); f.src = elsewhere; body.append(f)", "frame"),
        (
            "const f = document.createElement('form'); f.action = elsewhere; body.append(f); "
            "f.submit()",
            "form-action",
        ),
    ],
)
def test_the_browser_keeps_the_page_to_itself(
    open_page: Callable[..., Page], demo: Demo, attempt: str, directive: str
) -> None:
    """Whatever got into the page: it cannot run, and cannot tell anybody."""
    page = open_page(f"{demo.url}/console/#/models")
    expect(page.locator(".model-card").first).to_be_visible()
    refused = page.evaluate(
        """() => new Promise((told) => {
            document.addEventListener("securitypolicyviolation", (e) => told(e.effectiveDirective));
            const body = document.body, elsewhere = "http://elsewhere.invalid/x";
            ATTEMPT;
        })""".replace("ATTEMPT", attempt)
    )
    assert refused.startswith(directive)
    open_page.troubles.clear()  # type: ignore[attr-defined]  # the browser tells of what it refused
