"""The versions of a router that learns: seen by readers, changed by operators, and changed back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from playwright.sync_api import expect

from gateway.learning.steps import StepReport, write_report
from gateway.learning.versions import Measures, Version, VersionStore
from router_models.artifact import DEFAULT, load_suite
from router_models.pilot_commands import remove_model_command
from tests.console.conftest import ADMIN_KEY, Operated, serve_operated
from tests.console.test_access import violations
from tests.demo_process import Demo

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]

BETTER = Measures(0.41, 0.36, 0.031, 0.012, 0.05)
WORSE = Measures(0.35, 0.36, -0.02, -0.04, -0.001)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The shipped router in force, one in shadow that measured better, and one that measured worse."""
    folder = tmp_path_factory.mktemp("learning")
    store = VersionStore(folder)
    names = []
    for number, (model, measures) in enumerate(
        (("", Measures()), ("smollm2-135m-patents", BETTER), ("smollm2-135m-clinical", WORSE))
    ):
        artifact = Path(shutil.copytree(DEFAULT, folder / f"new-{number}"))
        if model:
            remove_model_command(artifact, model)
        names.append(load_suite(artifact).version)
        version = Version(
            id=names[-1],
            created_s=1.79e9 + 3600 * number,
            stage="shadow",
            reason=f"trained as number {number}",
            train_prompts=1000 + number,
            metrics=measures,
        )
        store.keep(version, artifact)
    store.promote(names[0], "it was there first", 1.79e9)
    write_report(folder, StepReport(said="waits: 12 newly scored", is_good=True, good_s=1.79e9))
    return folder, names


@pytest.fixture(scope="module")
def learning(
    demo: Demo, versions: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operated]:
    """A gateway of its own, since its router changes."""
    folder, _ = versions
    with serve_operated(
        demo, tmp_path_factory.mktemp("served"), learning={"folder": str(folder)}
    ) as served:
        yield served


def policy(served: Operated) -> str:
    answer = httpx2.get(
        f"{served.url}/console/api/session",
        headers={"authorization": f"Bearer {served.key}"},
        trust_env=False,
    )
    return str(answer.json()["policy_version"])


def test_a_reader_sees_each_version_and_changes_none(
    open_page: Callable[..., Page],
    learning: Operated,
    versions: tuple[Path, list[str]],
    app_modules: Path,
) -> None:
    names = versions[1]
    page = open_page(f"{learning.url}/console/", learning.key)
    page.get_by_role("link", name="Learning").click()
    rows = page.get_by_role("region", name="Versions, table").get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text(names[2])
    expect(rows.nth(1).locator(".worse")).to_contain_text("−0.020, between −0.040 to −0.001")
    expect(rows.nth(2).locator(".better")).to_contain_text("+0.031")
    expect(rows.nth(3)).to_contain_text("in force")
    expect(page.locator("main")).to_contain_text("ago: waits: 12 newly scored")
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    assert violations(page, app_modules / "axe-core" / "axe.min.js") == []


def test_an_operator_promotes_rejects_and_rolls_back(
    open_page: Callable[..., Page], learning: Operated, versions: tuple[Path, list[str]]
) -> None:
    first, better, worse = versions[1]
    before = policy(learning)
    page = open_page(f"{learning.admin_url}/console/#/learning", ADMIN_KEY)

    def press(label: str, what: str) -> None:
        page.get_by_role("button", name=f"{label} {what}", exact=True).click()
        page.get_by_role("button", name=f"Really {label.lower()} {what}", exact=True).click()

    row = page.get_by_role("row")
    press("Reject", worse)
    expect(row.filter(has_text=worse)).to_contain_text("rejected by an operator")
    press("Promote", better)
    expect(row.filter(has_text=better)).to_contain_text("in force")
    expect(page.locator(".version-name")).to_have_text(better)
    for _ in range(50):
        if policy(learning) != before:
            break
        page.wait_for_timeout(100)
    assert policy(learning) != before, "the promoted router serves"
    press("Roll back", f"to {first}")
    expect(page.locator(".version-name")).to_have_text(first)
    expect(row.filter(has_text=better)).to_contain_text(f"rolled back to {first}")


def test_who_does_not_learn_shows_nothing_of_it(open_page: Callable[..., Page], demo: Demo) -> None:
    page = open_page(f"{demo.url}/console/")
    expect(page.locator(".chosen-name")).to_contain_text("smollm2")
    expect(page.get_by_role("link", name="Learning")).to_have_count(0)
