"""The pages of quarantine in a real browser: they fit a telephone, and work without JavaScript."""

from __future__ import annotations

import pytest

from appliance.disk import quarantine
from appliance.disk.quarantine import Entry
from tests.web.day import Day
from tests.web.test_browser import browser, expect, page, sync_api
from tests.web.test_quarantine import held

__all__ = ["browser", "held", "page"]


def test_its_pages_break_no_policy_and_overflow_no_telephone(
    page: sync_api.Page, served: str, held: Entry
) -> None:
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 800})
        for path in ("/quarantine", "/quarantine?kind=held", f"/quarantine/{held.id}"):
            page.goto(served + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        page.get_by_role("button", name="Remove").click()
        expect(page.locator("h1")).to_have_text("Remove this file for good?")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_held_file_is_compared_and_taken_in(
    browser: sync_api.Browser, served: str, day: Day, held: Entry, has_scripts: bool
) -> None:
    context = browser.new_context(java_script_enabled=has_scripts)
    page = context.new_page()
    page.goto(f"{served}/quarantine")
    page.locator("a.row-link").click()
    row = page.get_by_role("row", name="Patient ID")
    expect(row).to_contain_text("P-1")
    expect(row).to_contain_text("P-2")
    expect(row).to_contain_text("differs")
    page.get_by_role("button", name="Take it in all the same").click()
    page.get_by_role("link", name="No, leave it").click()
    assert len(quarantine.entries(day.layout)) == 1
    page.get_by_role("button", name="Take it in all the same").click()
    page.get_by_role("button", name="Take it in all the same").click()
    expect(page.get_by_role("status").first).to_contain_text("took a held file in all the same")
    expect(page.locator("body")).to_contain_text("Nothing is in quarantine.")
    context.close()
    assert quarantine.entries(day.layout) == []
