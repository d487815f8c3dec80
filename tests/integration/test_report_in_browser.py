"""The written pages in a real browser, opened as a file: on a desktop, on a phone, on paper."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from report_folders import (
    HOSTILE,
    add_curves,
    edit,
    job,
    make_run_folder,
    make_sweep_folder,
    phase_folder,
    read,
    targets,
)

from osftx.report import write_report, write_sweep_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
FIRST_LETTERS_OF_PDF = b"%PDF-"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing = "no browser: install Chromium (Debian: apt-get install chromium) or Google Chrome"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything that a report can have, and with names as long as they come."""
    folder = make_run_folder(tmp_path_factory.mktemp("run"))
    add_curves(folder)
    plan = read(folder / "plan.json")["phases"]
    plan[1] |= {"replayed": {"base": 100, "knowledge": 20}, "starts_from": f"/models/{'long' * 40}"}
    edit(folder / "plan.json", phases=plan, name=f"{HOSTILE} {'long' * 40}")
    retention = read(folder / "results.json")["retention"]
    tasks = ["mmlu", "a_benchmark_with_a_name_that_takes_its_room"]
    retention["benchmarks"] = {"tasks": tasks, "metrics": dict.fromkeys(tasks, "acc"), "values": [[0.6, 0.5]] * 3}
    edit(folder / "results.json", retention=retention, command="python -m osftx " + "long" * 40)
    own = [*targets(16, 1229), *targets(32, 900)[32:]]
    edit(phase_folder(folder, 1, "knowledge") / "result.json", targets=own)
    return write_report(folder)


@pytest.fixture(scope="module")
def sweep_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    jobs = [job(0, "1e-05", 0.25), job(1, "0.012345678", 0.75, best=True)]
    jobs.append(job(2, "0.001", None, state="failed", failure=f"{HOSTILE} {'long' * 40}", summary={}))
    shares = {"training.learning_rate": 0.8, "order": 0.2}
    folder = make_sweep_folder(tmp_path_factory.mktemp("sweep"), jobs, importance={"summary.average_accuracy": shares})
    return write_sweep_report(folder)


@pytest.fixture(params=["report", "sweep_report"])
def page_file(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty tab; the test fails for whatever goes wrong in it, and for every request but the page's own."""
    tab = browser.new_page(viewport=DESKTOP)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:80]}"))
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    yield tab
    others = [url[:80] for url in requests if url != tab.url and not url.startswith("data:")]
    tab.close()
    assert wrong == []
    assert requests != []
    assert others == []


def test_every_picture_shows(page: Page, page_file: Path) -> None:
    page.goto(page_file.as_uri())
    pictures = page.locator("img").all()
    assert len(pictures) == len(list((page_file.parent / "figures").iterdir()))
    for picture in pictures:
        assert picture.evaluate("image => image.complete && image.naturalWidth") > 0
        assert picture.is_visible()
        assert picture.get_attribute("alt")


def test_the_report_has_its_sections(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert headings == ["Plan", "Retention", "Training", "Protection of the frozen directions", "How to repeat it"]
    assert HOSTILE in page.get_by_role("heading", level=1).inner_text()
    assert "base 100" in page.get_by_role("region", name="Plan").inner_text()
    assert "mmlu" in page.get_by_role("region", name="Benchmarks").inner_text()


def test_the_sweep_has_its_sections(page: Page, sweep_report: Path) -> None:
    page.goto(sweep_report.as_uri())
    assert page.get_by_role("heading", level=2).all_inner_texts() == ["Jobs", "Figures"]
    assert HOSTILE in page.locator("tbody").inner_text()


def test_the_weights_of_a_phase_unfold(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    weight = page.get_by_role("rowheader", name="model.layers.31.mlp.down_proj")
    assert not weight.is_visible()
    page.get_by_text("Every weight of 1 knowledge (64)").click()
    assert weight.is_visible()
    assert page.locator("details").first.locator("tbody tr").count() == 64


def test_a_phone_scrolls_tables_and_not_the_page(page: Page, page_file: Path) -> None:
    page.set_viewport_size(PHONE)
    page.goto(page_file.as_uri())
    for fold in page.locator("summary").all():
        fold.click()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
    table = page.locator(".table").first
    table.evaluate("element => element.scrollLeft = 100")
    assert table.evaluate("element => element.scrollLeft") == 100


def test_it_can_be_printed(page: Page, page_file: Path) -> None:
    page.goto(page_file.as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(FIRST_LETTERS_OF_PDF)
    assert printed.count(b"/Type /Page\n") >= 1
