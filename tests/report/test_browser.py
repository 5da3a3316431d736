"""The report in headless Chromium: no request, no console error, accessible, walkable, and readable without scripts."""

from __future__ import annotations

import pytest

from pe_beam.contracts.modality import Modality
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.report.build import build
from tests.report.releases import write_release
from tests.report.words import HOSTILE, WORDS, texts
from tests.whole_runs import copied

pytestmark = pytest.mark.reported

WIDTHS = (390, 820, 1440)
SCHEMES = ("light", "dark")


class Watched:
    """A page that remembers what it asked for and what it complained about."""

    def __init__(self, browser, path, *, width=1440, javascript=True):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=javascript)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.goto(path.as_uri())

    def settle(self):
        """Closes, and holds that nothing but the file and data was asked for, and nothing was complained about."""
        self.page.wait_for_timeout(50)
        self.context.close()
        assert not self.said
        assert not [url for url in self.asked[1:] if not url.startswith("data:")]
        assert self.asked[0].startswith("file:")


@pytest.fixture(scope="module")
def evaluated(digits, tmp_path_factory):
    """A copy of the run that has been evaluated."""
    run = copied(digits, tmp_path_factory.mktemp("evaluated") / "run")
    evaluate(run)
    return run


@pytest.fixture(scope="module")
def html(digits):
    return digits / "release/report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Hostile labels and texts in a third party's modality."""
    import copy

    from tests.whole_runs import SMALL

    folder = tmp_path_factory.mktemp("hostile")
    recipe = copy.deepcopy(SMALL)
    recipe["data"]["labels"] = HOSTILE
    history = write_release(folder / "release", recipe, WORDS, texts)
    (folder / "report.html").write_bytes(build(history, WORDS))
    plain = Modality(name="words", payload=WORDS.payload)
    (folder / "plain.html").write_bytes(build(history, plain))
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_its_screen_and_asks_for_nothing(browser, html, width):
    watched = Watched(browser, html, width=width)
    for scheme in SCHEMES:
        watched.page.emulate_media(color_scheme=scheme)
        assert watched.page.evaluate("document.documentElement.scrollWidth") == width
        grounds = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (grounds == "rgb(18, 20, 23)") == (scheme == "dark")
    watched.settle()


@pytest.mark.parametrize("width", WIDTHS)
def test_long_hostile_labels_fit_too(browser, hostile, width):
    for name in ("report.html", "plain.html"):
        watched = Watched(browser, hostile / name, width=width)
        assert watched.page.evaluate("document.documentElement.scrollWidth") == width
        watched.settle()


def test_the_policy_stops_whatever_would_be_asked_for(browser, html):
    watched = Watched(browser, html)
    watched.page.evaluate(
        "() => { const i = new Image(); i.src = 'https://example.invalid/x.png'; document.body.append(i);"
        " const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }"
    )
    for _ in range(300):
        if sum("Content Security Policy" in text for text in watched.said) >= 2:
            break
        watched.page.wait_for_timeout(100)
    assert watched.page.evaluate("window.ran") is None
    assert sum("Content Security Policy" in text for text in watched.said) >= 2
    watched.context.close()


@pytest.mark.parametrize("name", ["digits", "report.html", "plain.html"])
def test_axe_finds_nothing(browser, html, hostile, name):
    """All rules of axe-core, best practices among them, with everything unfolded."""
    _accessible(Watched(browser, html if name == "digits" else hostile / name, width=1000))


def test_axe_finds_nothing_in_an_evaluation(browser, evaluated):
    watched = Watched(browser, evaluated / "private/evaluation/evaluation.html", width=390)
    assert watched.page.evaluate("document.documentElement.scrollWidth") == 390
    _accessible(watched)


def _accessible(watched):
    """Holds that axe-core finds nothing, and in the dark nothing by the rules that look at colours."""
    from axe_playwright_python.sync_playwright import Axe

    watched.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    for scheme, rules in (("light", None), ("dark", ["color-contrast", "link-in-text-block"])):
        watched.page.emulate_media(color_scheme=scheme)
        options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
        found = Axe().run(watched.page, options=options).response["violations"]
        shown = [(v["id"], v["help"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]
        assert not shown, scheme
    watched.settle()


def test_the_family_tree_is_walked_by_mouse_and_by_keys(browser, html):
    from playwright.sync_api import expect

    watched = Watched(browser, html)
    page = watched.page
    title, facts = page.locator("#tree h3"), page.locator("#tree .focus .muted").first
    page.locator("#samples a[data-n]").first.click()
    expect(facts).to_contain_text("population 2")
    expect(title).to_be_focused()
    sample = title.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(facts).to_contain_text("population 1")
    expect(page.locator("#tree .focus")).to_contain_text("noisy votes in iteration 2")
    parent = title.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(facts).to_contain_text("made at random")
    page.go_back()
    expect(title).to_have_text(parent)
    page.go_back()
    expect(title).to_have_text(sample)
    expect(facts).to_contain_text(f"varied from {parent.removeprefix('Candidate ')}")
    page.locator("#tree .path a").first.focus()
    page.keyboard.press("Enter")
    expect(facts).to_contain_text("made at random")
    page.locator("#tree .kin").last.locator("a").first.click()
    expect(facts).to_contain_text("varied from")
    watched.settle()


def test_without_scripts_text_galleries_and_strips_are_there(browser, html):
    watched = Watched(browser, html, javascript=False)
    page = watched.page
    assert page.locator("text=What it does not cover").is_visible()
    assert page.locator("#promise p.prose").inner_text().startswith("The release is (1, 1e-05)-differentially private")
    assert page.locator("#samples .px").first.is_visible()
    assert page.locator("#evolution .strip .px").first.is_visible()
    page.locator("details.population summary").first.click()
    assert page.locator("details.population .row .px").first.is_visible()
    assert page.locator("noscript .note").is_visible()
    assert page.locator("#recipe pre").inner_text().startswith("version: 1")
    watched.settle()


def test_pictures_are_really_there(browser, html):
    """A tile on the screen is the picture in the release, enlarged: its brightest and darkest places are."""
    watched = Watched(browser, html)
    shot = watched.page.locator("#samples .px").first.screenshot()
    import io

    import numpy as np
    from PIL import Image

    seen = np.asarray(Image.open(io.BytesIO(shot)).convert("L"), dtype=float)
    assert seen.max() > 200
    assert seen.min() < 60
    watched.settle()


def test_hostile_words_stay_words(browser, hostile):
    for name in ("report.html", "plain.html"):
        watched = Watched(browser, hostile / name)
        assert watched.page.evaluate("document.images.length") == 0
        watched.page.locator("#samples a[data-n]").first.click()
        assert "<img src=x" in watched.page.locator("#tree").inner_text()
        assert watched.page.evaluate("document.images.length") == 0
        watched.settle()


def test_it_prints(browser, html):
    watched = Watched(browser, html)
    pdf = watched.page.pdf(format="A4", print_background=True)
    assert pdf.startswith(b"%PDF")
    watched.page.emulate_media(media="print")
    assert watched.page.locator("details.population .row .px").first.is_visible()
    assert not watched.page.locator("#lineage").is_visible()
    watched.settle()
