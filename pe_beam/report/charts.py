"""Draws charts as SVG inside the page with matplotlib. The style of the page sets their colours (light, dark, print).

Matplotlib draws in placeholder colours. In its SVG they become CSS variables. Text stays text. Equal data give equal
bytes: the SVG has no date and no random ids.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

INK, MUTED, GRID, ACCENT, NOISE, NOISE_SOFT, PAPER, DANGER, ACCENT_SOFT = (f"#0{i}0{i}0{i}" for i in range(1, 10))
"""Colours: text, muted text, grid lines, the subject, noise, its band, the background, danger, the subject's area."""
SERIES = tuple(f"#1{i}1{i}1{i}" for i in range(1, 9))
"""Colours of up to eight series in one chart (labels, columns)."""

_VARIABLES = dict(
    zip(
        (INK, MUTED, GRID, ACCENT, NOISE, NOISE_SOFT, PAPER, DANGER, ACCENT_SOFT),
        ("ink", "muted", "line", "accent", "noise", "noise-soft", "card", "danger", "accent-soft"),
        strict=True,
    )
) | {colour: f"series-{i}" for i, colour in enumerate(SERIES, start=1)}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pe_beam",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # a label may contain a dollar sign
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "lines.linewidth": 1.8,
    "path.simplify": True,
}


def draw(
    paint: Callable[[Any], None], *, title: str, desc: str, width: int = 360, height: int = 220, class_: str = "chart"
) -> Markup:
    """Returns one chart as an <svg> element that scales with its column.

    Args:
      paint: gets a `matplotlib.axes.Axes` and draws on it, with the colours of this module.
      title: a few words that a screen reader reads first. Title and `desc` together are unique on the page.
      desc: one or two sentences on what the chart shows, for a screen reader.
      width: width in CSS pixels at full size. 360 is about a phone's screen, where text is still readable.
      height: height in CSS pixels at full size.
      class_: class for the page's style.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # a user's own matplotlibrc must not change a byte
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        paint(figure.subplots())
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    key = "c" + hashlib.sha256(f"{title}/{desc}/{class_}".encode()).hexdigest()[:10]
    return _inline(sink.getvalue(), key, title, desc, class_)


def draw_twice(
    paint: Callable[[Any], None], *, title: str, desc: str, width: int, height: int, narrow_height: int = 230
) -> Markup:
    """Returns a chart twice: for wide screens, and for narrow ones with readable text. The page's style shows one."""
    wide = draw(paint, title=title, desc=desc, width=width, height=height, class_="chart on-wide")
    return wide + draw(paint, title=title, desc=desc, width=340, height=narrow_height, class_="chart on-narrow")


def whole(axis: Any) -> None:
    """Sets ticks only at whole numbers, at least one tick. It is for axes of iterations."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def shortened(name: str, most: int = 14) -> str:
    """Returns a short name for a tick: both ends of a long name, because long names often have the same beginning.

    >>> shortened("Business Category: Bars")
    'Busin…y: Bars'
    """
    return name if len(name) <= most else f"{name[: most // 2 - 2]}…{name[-most // 2 :]}"


def _inline(svg: str, key: str, title: str, desc: str, class_: str) -> Markup:
    body = svg[svg.index("<svg") :]
    opening, _, body = body.partition(">")
    box = re.search(r'viewBox="([^"]+)"', opening)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    referred = set(re.findall(r"#([A-Za-z][\w.-]*)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}{m[1]}"' if m[1] in referred else "", body)
    body = re.sub(r'(url\(|xlink:href="|href=")#', rf"\1#{key}", body).replace("xlink:href", "href")
    body = re.sub(r"#(?:0\d){3}|#(?:1\d){3}", lambda m: _variable(m[0]), body)
    body = re.sub(r"\s*\n\s*", "\n", re.sub(r"<!--.*?-->", "", body, flags=re.S))
    body = re.sub(r"<style.*?</style>", "", body, flags=re.S).replace("<defs>\n</defs>", "")
    body = re.sub(r' (d|x|y|transform)="([^"]*)"', _shortened, body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = body.replace(" font-family: 'DejaVu Sans';", "")
    head = (
        f'<svg class="{escape(class_)}" viewBox="{box[1] if box else ""}" role="img" '
        f'aria-labelledby="{key}t {key}d" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{key}t">{escape(title)}</title><desc id="{key}d">{escape(desc)}</desc>'
    )
    return Markup(head + body.strip())


def _shortened(found: re.Match[str]) -> str:
    """Rounds coordinates to a hundredth of a pixel."""
    return f' {found[1]}="{re.sub(r"-?[0-9]+[.][0-9]{3,}", lambda m: f"{float(m[0]):.2f}", found[2])}"'


def _variable(colour: str) -> str:
    name = _VARIABLES.get(colour)
    return f"var(--{name})" if name else colour
