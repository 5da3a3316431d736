"""The pieces of a page: what is escaped, what is allowed to run, charts that follow the page's colours."""

from __future__ import annotations

import json
import re

import pytest
from markupsafe import Markup

from pe_beam.contracts.view import Section, View
from pe_beam.report import charts, html
from pe_beam.report.page import Page, render

pytestmark = pytest.mark.reported

HOSTILE = """</script></style></svg><img src=x onerror=alert(1)>"'&$\\frac{"""


def test_everything_handed_in_is_escaped():
    section = Section(key="a", title=HOSTILE, lead=HOSTILE, body=html.table([HOSTILE], [[HOSTILE]], caption=HOSTILE))
    chart = charts.draw(lambda axes: axes.set_title(HOSTILE), title=HOSTILE, desc=HOSTILE)
    page = Page(
        title=HOSTILE,
        kicker=HOSTILE,
        hero=html.figure(chart, HOSTILE),
        sections=[section],
        mark=HOSTILE,
        mark_text=HOSTILE,
        data=json.dumps(HOSTILE),
        css="a{content:'</style>'}",
        script="1;",
    )
    text = render(page).decode()
    assert "<img" not in text
    assert text.count("</style>") == 1
    assert text.count("</script>") == 2


def test_only_the_script_given_may_run_and_nothing_may_be_fetched():
    page = Page(title="t", hero=Markup(""), sections=[], script="let a = 1;")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', render(page).decode())
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "script-src &#39;sha256-" in policy[1]
    assert "'unsafe" not in policy[1].replace("&#39;", "'").replace("style-src 'unsafe-inline'", "")


def test_two_sections_of_one_key_are_refused():
    section = Section(key="a", title="a", body=Markup(""))
    with pytest.raises(ValueError, match="used twice"):
        render(Page(title="t", hero=Markup(""), sections=[section, section]))


def test_a_chart_has_the_pages_colours_words_and_equal_bytes():
    def paint(axes):
        axes.fill_between([0, 1], [0, 0], [1, 2], color=charts.NOISE_SOFT)
        axes.plot([0, 1], [1, 2], color=charts.SERIES[7])
        axes.set_xlabel("votes")

    svg = charts.draw(paint, title="Votes", desc="What was seen.")
    assert svg == charts.draw(paint, title="Votes", desc="What was seen.")
    assert "var(--noise-soft)" in svg
    assert "var(--series-8)" in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert ">votes</text>" in svg
    assert "<title" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))


def test_a_view_of_a_third_party_needs_two_methods():
    class Sounds(View):
        def fragment(self, record, parent=None, *, large=False):
            return html.tag("b", record["pitch"])

        def alt(self, record):
            return f"sound of {record['pitch']}"

    drawn = Sounds().gallery([{"pitch": "<a>"}], lambda record, shown: html.tag("a", shown, href="#x"))
    assert drawn == Markup('<ul class="blocks"><li><a href="#x"><b>&lt;a&gt;</b></a></li></ul>')
    assert list(Sounds().sections(None)) == []
