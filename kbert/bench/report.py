"""Measurements to read: a table for the terminal, a page with bars for the browser."""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbert.bench.timing import Measurement
from kbert.files import replaced_files

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { padding: .2rem .6rem; text-align: left; white-space: nowrap; }
td.bar { width: 55%; } td.bar div { background: #9aa5b1; height: 1.1rem; } tr.own td.bar div { background: #2563a8; }
small { color: #555; white-space: normal; }
"""


def table(measurements: Sequence[Measurement]) -> str:
    """Lines of text: name, rates and ratios."""
    width = max(len(m.name) for m in measurements)
    unit, details = measurements[0].unit, measurements[0].details
    lines = [
        f"{'':{width}}  best {unit:>6}   median"
        + "".join(f" {name:>8}" for name in details)
        + f"   times {measurements[0].baseline} (best, median)"
    ]
    lines += [
        f"{m.name:{width}}  {m.best:{5 + max(len(unit), 6)}.2f} {m.median:8.2f}"
        + "".join(f" {value:{max(len(name), 8)}.1f}" for name, value in m.details.items())
        + f"   {m.ratio_best:6.2f} {m.ratio_median:6.2f}"
        + (f"   {m.note}" if m.note else "")
        for m in measurements
    ]
    return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on."""
    return f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"


def write_chart(path: Path, title: str, charts: Mapping[str, Sequence[Measurement]]) -> None:
    """Write a page of bar charts, one for each heading; bars are medians.

    Args:
        path: An .html file; one that exists is replaced.
        title: Of the page.
        charts: Heading -> measurements in one unit.
    """
    sections = []
    for heading, measurements in charts.items():
        longest = max(m.median for m in measurements)
        rows = [
            f'<tr class="{"own" if m.name.startswith("kbert") else "peer"}">'
            f"<td>{html.escape(m.name)}<br><small>{html.escape(m.note)}</small></td>"
            f'<td class="bar"><div style="width: {100 * m.median / longest:.1f}%"></div></td>'
            f"<td>{m.median:.1f} {m.unit}</td><td>{m.ratio_median:.1f} ×</td></tr>"
            for m in measurements
        ]
        baseline = html.escape(measurements[0].baseline)
        sections.append(
            f"<h2>{html.escape(heading)}</h2><table><tr><th></th><th></th><th>median</th>"
            f"<th>of {baseline}</th></tr>{''.join(rows)}</table>"
        )
    page = (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(machine())}</p>{''.join(sections)}</html>\n"
    )
    with replaced_files(path.parent, last=path.name) as partial:
        (partial / path.name).write_text(page, encoding="utf8")
