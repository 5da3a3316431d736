"""The page in headless Chromium, beside a real run: before it begins, while it works, stopped, resumed, complete."""

from __future__ import annotations

import numpy as np
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.text import MODALITY as TEXT
from pe_beam.recipe.loading import parse_recipe
from pe_beam.watch.server import serving
from tests.report.words import HOSTILE, texts
from tests.watch.conftest import made_up
from tests.whole_runs import SECRET, SMALL, stop_half_way

WIDTHS = (390, 1440)
SCHEMES = ("light", "dark")


class Tab:
    """A page that remembers what it asked for and what it complained about."""

    def __init__(self, browser, served, *, width=1440):
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page, self.served = self.context.new_page(), served
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(served.url)

    def settle(self):
        """Closes, and holds that nothing but this server was asked, and nothing was complained about."""
        self.context.close()
        assert not self.said
        assert not [url for url in self.asked if not url.startswith((self.served.url, "data:"))]


@pytest.fixture
def tab(browser, served):
    found = Tab(browser, served)
    yield found
    found.settle()


def test_it_follows_a_run_from_before_its_begin_to_its_end(browser, tmp_path):
    from playwright.sync_api import expect

    secret, run_dir, seen = tmp_path / "secret", tmp_path / "run", []
    secret.write_bytes(SECRET)
    with serving(str(run_dir)) as served:
        tab = Tab(browser, served)
        page, standing = tab.page, tab.page.locator("#standing")
        expect(standing).to_have_text(f"No run is in {run_dir} yet. This page shows it when it begins.")
        expect(page.locator(".toc")).to_be_hidden()
        stop_half_way(SMALL, run_dir, secret)
        expect(standing).to_contain_text("no process is at work")
        expect(standing).to_contain_text("Population 1 of 2 is released.")
        expect(page.locator("h1")).to_have_text("small")
        expect(page.locator("#holder")).to_contain_text("Epsilon spent, by the ledger1")
        expect(page.locator("#public")).to_contain_text("Epsilon of what is released0.6")
        expect(page.locator("#shown .px").first).to_be_visible()
        page.evaluate("window.same = 1")  # the page is not loaded again

        def look(_run, iteration):
            seen.append(iteration)
            expect(standing).to_contain_text(f"Population {iteration} of 2 is released. At work")

        evolve(parse_recipe(SMALL), run_dir, secret_file=secret, on_iteration=look)
        expect(standing).to_have_text("The run is complete.")
        expect(page.locator("#population")).to_have_value("2")
        expect(page.locator("#bar")).to_have_attribute("aria-label", "100 percent done")
        expect(page.locator("#holder")).to_contain_text("release/report.html")
        assert page.evaluate("window.same") == 1
        assert seen == [2]
        tab.settle()


def test_a_server_that_has_ended_is_said(browser, digits):
    from playwright.sync_api import expect

    with serving(str(digits)) as served:
        tab = Tab(browser, served)
    expect(tab.page.locator("#trouble")).to_contain_text("does not answer")
    with serving(str(digits), port=served.port):
        expect(tab.page.locator("#trouble")).to_contain_text("was started again")
    tab.context.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A made-up run of 600 pictures, of which the second iteration is still to come."""
    run = tmp_path_factory.mktemp("many") / "run"
    recipe = SMALL | {"evolution": {"iterations": 2, "samples": 600, "population": 600}}
    pictures = [encode_png(np.full((8, 8), grey, dtype=np.uint8)) for grey in range(0, 250, 10)]
    made_up(
        run, recipe, MODALITY, lambda rows, rng: {"image": [pictures[i % 25] for i in range(rows)]}, iterations=(0, 1)
    )
    with serving(str(run)) as found:
        yield found


def test_the_gallery_is_walked_by_range_and_by_label(browser, many):
    from playwright.sync_api import expect

    tab = Tab(browser, many)
    page = tab.page
    rows, links = page.locator("#shown .row"), page.locator("#shown .row a")
    expect(rows).to_have_count(10)
    expect(links).to_have_count(120)
    page.get_by_role("button", name="Show all of label 3").click()
    expect(rows).to_have_count(1)
    expect(page.locator("#shown .at")).to_have_text("candidates 1–24 of 60")
    assert links.first.get_attribute("href") == "#c1-780"
    page.get_by_role("button", name="next").click()
    expect(page.locator("#shown .at")).to_have_text("candidates 25–48 of 60")
    expect(page.get_by_role("button", name="next")).to_be_focused()
    assert links.first.get_attribute("href") == "#c1-804"
    page.get_by_role("button", name="last").click()
    expect(links).to_have_count(12)
    page.get_by_role("button", name="Show all labels").click()
    expect(rows).to_have_count(10)
    expect(page.locator("#newest")).to_be_checked()
    page.locator("#population").select_option("0")
    expect(page.locator("#newest")).not_to_be_checked()
    page.locator("#order").select_option("votes")
    expect(page.locator("#shown a.chosen").first).to_be_visible()
    expect(rows.first.locator("a").first).to_have_class("chosen")  # the most voted
    assert links.count() == 120  # never more than a range is in the browser
    tab.settle()


def test_hostile_words_stay_words(browser, tmp_path):
    from playwright.sync_api import expect

    recipe = {
        **SMALL,
        "data": {"source": "jsonl", "path": "x.jsonl", "labels": HOSTILE},
        "modality": "text",
        "generator": {"name": "llm", "model": "m", "random": {"user": "p"}, "vary": {"user": "{text}"}},
        "embedder": {"name": "hashed-words"},
    }
    made_up(tmp_path / "run", recipe, TEXT, texts)
    with serving(str(tmp_path / "run")) as served:
        tab = Tab(browser, served, width=390)
        expect(tab.page.locator("#shown .label").first).to_have_text(HOSTILE[0])
        tab.page.locator("#shown a").first.click()
        expect(tab.page.locator("#family .said").first).to_contain_text("<img src=x")
        assert tab.page.evaluate("document.images.length") == 0
        assert tab.page.locator("#shown img, #family img").count() == 0
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
        tab.settle()


def test_the_family_of_a_candidate_is_walked_by_mouse_and_by_keys(tab):
    from playwright.sync_api import expect

    page = tab.page
    page.locator("#shown a").first.click()
    title, facts = page.locator("#family h3"), page.locator("#family .focus .muted").first
    expect(facts).to_contain_text("population 1")
    expect(title).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(facts).to_contain_text("made at random")
    expect(page.locator("#family .focus")).to_contain_text("noisy votes in iteration 1")
    expect(page.locator("#family .gauge .bar")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(facts).to_contain_text("population 1")
    page.go_back()
    expect(facts).to_contain_text("made at random")
    page.locator("#family .kin a").first.click()
    expect(facts).to_contain_text("population 1")


def test_only_what_is_public_is_shown_where_that_is_wished(tab, digits):
    page = tab.page
    page.locator("#public-only").check()
    assert not page.locator("#now").is_visible()
    shown = page.locator("body").inner_text()
    for word in (str(digits), "ledger", "process is at work", "for the holder", "Time"):
        assert word.lower() not in shown.lower().replace("this part is for who holds them", "")


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_its_screen_and_axe_finds_nothing(browser, served, width):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    tab = Tab(browser, served, width=width)
    tab.page.locator("#shown a").first.click()
    expect(tab.page.locator("#family h3")).to_be_focused()
    tab.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    for scheme in SCHEMES:
        tab.page.emulate_media(color_scheme=scheme)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(18, 20, 23)") == (scheme == "dark")
        if width == 1440:
            continue  # the same elements, with more room
        rules = {} if scheme == "light" else {"runOnly": ["color-contrast", "link-in-text-block"]}
        found = Axe().run(tab.page, options={"resultTypes": ["violations"], **rules}).response["violations"]
        assert not [(v["id"], v["help"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found], scheme
    tab.settle()


def test_a_run_without_a_promise_is_marked(browser, tmp_path):
    from playwright.sync_api import expect

    recipe = SMALL | {"privacy": {"epsilon": "inf", "delta": 1e-5}}
    with serving(str(tmp_path / "run")) as served:
        tab = Tab(browser, served)
        expect(tab.page.locator("#standing")).to_contain_text("No run")
        made_up(tmp_path / "run", recipe, MODALITY, lambda n, _: {"image": [encode_png(np.eye(8, dtype=np.uint8))] * n})
        expect(tab.page.locator(".mark strong")).to_have_text("NOT PRIVATE")
        expect(tab.page.locator("#public-note")).to_contain_text("nothing here may be shared")
        assert tab.page.title().startswith("NOT PRIVATE")
        tab.page.locator("#public-only").check()
        expect(tab.page.locator("#standing")).to_have_text("Nothing here is public.")
        assert not [each for each in tab.page.locator("section").all() if each.is_visible()]
        tab.page.locator("#public-only").uncheck()
        assert "public" not in [mark.inner_text().lower() for mark in tab.page.locator(".who").all()]
        tab.settle()
