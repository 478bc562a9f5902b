"""The pages in a real browser: the log as it grows, the policy kept, and without JavaScript."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from appliance.index import attempts
from appliance.index.attempts import Finish
from appliance.index.jobs import get
from tests.kit import require
from tests.web.day import Day

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
Browser, Page = sync_api.Browser, sync_api.Page
expect = sync_api.expect

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A chromium that can reach nothing but this machine."""
    program = shutil.which("chromium") or require.program("chromium", "chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: str) -> Iterator[Page]:
    """A page; at its end nothing may stand in its console, and nothing may have left 127.0.0.1."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: said.append(request.url) if _is_away(request.url) else None)
    yield page
    context.close()
    assert [line for line in said if "404 (NOT FOUND)" not in line] == []


def _is_away(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:"))


def paths(ids: SimpleNamespace) -> list[str]:
    """Every kind of page."""
    jobs = [getattr(ids, name) for name in ("queued", "running", "failed", "hostile", "succeeded")]
    return [
        "/", "/jobs", "/jobs?state=failed", "/streams", "/arrivals", "/deliveries",
        f"/deliveries/{ids.gave_up}", "/routing", "/quarantine", "/activity", "/node", "/nothing",
        *(f"/jobs/{job_id}" for job_id in jobs),
    ]  # fmt: skip


def test_no_page_breaks_the_policy_or_overflows_a_telephone(
    page: Page, served: str, ids: SimpleNamespace
) -> None:
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 800})
        for path in paths(ids):
            page.goto(served + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_log_grows_as_the_stream_writes(
    page: Page, served: str, ids: SimpleNamespace, day: Day
) -> None:
    log = day.layout.job(ids.running).log
    page.goto(f"{served}/jobs/{ids.running}")
    pane = page.locator("#log")
    expect(pane).to_contain_text("window 40/400")
    with log.open("a") as file:
        file.write("slice 13 of 51\n<b>bold</b><script>alert(1)</script>\n")
    expect(pane).to_contain_text("slice 13 of 51", timeout=3000)
    expect(pane).to_contain_text("<script>alert(1)</script>")
    assert pane.locator("b").count() == 0


def test_the_page_follows_the_job_to_its_end(
    page: Page, served: str, ids: SimpleNamespace, day: Day
) -> None:
    page.goto(f"{served}/jobs/{ids.running}")
    heading = page.locator("h1")
    expect(heading).to_contain_text("12 of 51")
    with day.db.read() as connection:
        job = get(connection, ids.running)
    attempts.note_run(day.db, job, progress_done=30)
    expect(heading).to_contain_text("30 of 51", timeout=8000)
    day.ended(job, Finish("success", result_count=1), results=1)
    expect(heading).to_contain_text("Succeeded after", timeout=8000)
    expect(page.locator("#announce")).to_have_text(f"Job {ids.running}: succeeded")
    expect(page.get_by_role("link", name="Download results")).to_be_visible()


def test_updates_can_be_paused(page: Page, served: str, ids: SimpleNamespace, day: Day) -> None:
    page.goto(f"{served}/jobs")
    page.get_by_role("button", name="Pause updates").click()
    before = page.locator("#clock").inner_text()
    page.wait_for_timeout(5500)
    assert page.locator("#clock").inner_text() == before
    page.get_by_role("button", name="Pause updates").click()
    expect(page.locator("#clock")).not_to_have_text(before, timeout=7000)


def test_everything_works_without_javascript(
    browser: Browser, served: str, ids: SimpleNamespace, day: Day
) -> None:
    context = browser.new_context(java_script_enabled=False, accept_downloads=True)
    page = context.new_page()
    page.goto(served)
    page.get_by_role("link", name="failed in 24 hours").click()
    page.get_by_role("link", name=str(ids.failed), exact=True).click()
    expect(page.locator("h1")).to_contain_text("it ran out of memory")
    expect(page.locator("#log")).to_contain_text("reading 24 instances")
    page.get_by_role("link", name="Whole log as text").click()
    expect(page.locator("body")).to_contain_text("window 40/400")
    page.go_back()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("h1")).to_contain_text("Waiting for")
    page.goto(f"{served}/jobs/{ids.succeeded}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    assert download.value.suggested_filename == f"MONTAGE_job-{ids.succeeded}.zip"
    page.goto(f"{served}/jobs?q=Doe")
    page.get_by_role("button", name="Dim").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dim")
    assert page.url == f"{served}/jobs?q=Doe"
    context.close()


def test_the_keyboard_reaches_the_content_first(
    page: Page, served: str, ids: SimpleNamespace
) -> None:
    page.goto(f"{served}/jobs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs#main")


def test_an_error_page_does_not_ask_again(page: Page, served: str, ids: SimpleNamespace) -> None:
    page.goto(f"{served}/nothing")
    expect(page.locator("h1")).to_contain_text("nothing at this address")
    expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark", "dim"])
def test_text_can_be_read_in_every_theme(
    page: Page, served: str, ids: SimpleNamespace, theme: str
) -> None:
    page.context.add_cookies([{"name": "theme", "value": theme, "url": served}])
    for path in ("/", "/jobs", f"/jobs/{ids.failed}", f"/jobs/{ids.held}", "/streams"):
        page.goto(served + path)
        weak = page.evaluate(CONTRAST)
        assert weak == [], f"{path} in {theme}"


# WCAG 2.2 1.4.3: 4.5 to 1 for text of this size, measured on every element that holds text.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const one = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * one(r) + 0.7152 * one(g) + 0.0722 * one(b);
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const found = rgb(getComputedStyle(e).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const weak = new Set();
  for (const e of document.querySelectorAll("body *")) {
    const has = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!has || e.closest(".unseen, .skip, svg, [hidden]") || !e.getClientRects().length) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.add(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
  }
  return [...weak];
}"""
