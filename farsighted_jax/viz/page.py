"""One HTML page that holds everything: pictures inlined, no network, no script."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --paper: #ffffff; --faint: #5f6368; --rule: #d9dce0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #17181b; --faint: #a3a8af; --rule: #3a3d42; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1500px; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; }
p { max-width: 72ch; margin: .5rem 0; } .lead, figcaption, caption { color: var(--faint); }
.pictures { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 0 1.5rem; }
figure { margin: 1rem 0; } figcaption { padding-bottom: .35rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; margin: .75rem 0; }
caption { text-align: left; padding-bottom: .35rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--rule); text-align: right;
         font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.text th, .text td { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid var(--rule); }
pre { overflow-x: auto; font-size: .85rem; padding: .75rem;
      border: 1px solid var(--rule); border-radius: 4px; }
summary { cursor: pointer; }
"""

# How a file of each kind begins.
KINDS = {
    "png": lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"),
    "webp": lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP",
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG or WebP file with its caption and the text that stands for it where it cannot be seen."""

    path: str | Path
    caption: str
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the rows, and `wrap` breaks long texts into lines."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    wrap: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
      heading: its title.
      text: a paragraph under it.
      tables: drawn first.
      pictures: after the tables, as many in a row as there is room for.
      folded: preformatted text (a configuration) behind a fold, or "".
    """

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: str = ""


def write_page(path: str | Path, title: str, sections: Sequence[Section], lead: str = "") -> Path:
    """Writes one self-contained HTML file; every text is escaped.

    Args:
      path: file to write; its folder is made.
      title: of the page.
      sections: in order.
      lead: one line under the title.

    Returns:
      The path.

    Raises:
      ValueError: a picture is neither PNG nor WebP, or a table row has another length than its head.
      FileNotFoundError: a picture is missing.
    """
    body = "\n".join(_section(section) for section in sections)
    document = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n{body}\n'
        f"</main>\n</body>\n</html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, encoding="utf-8")
    return path


def _section(section):
    parts = [f"<section>\n<h2>{html.escape(section.heading)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    parts += [_table(table) for table in section.tables]
    if section.pictures:
        parts.append(f'<div class="pictures">{"".join(map(_picture, section.pictures))}</div>')
    if section.folded:
        parts.append(f"<details><summary>show</summary><pre>{html.escape(section.folded)}</pre></details>")
    return "\n".join([*parts, "</section>"])


def _table(table):
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"table {table.caption!r}: row {list(row)}, expected {len(table.columns)} cells")
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(c)}</td>" for c in cells)
        + "</tr>"
        for name, *cells in table.rows
    )
    return (
        f'<div class="{"text" if table.wrap else "wide"}"><table>\n'
        f"<caption>{html.escape(table.caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _picture(picture):
    content = Path(picture.path).read_bytes()
    kind = next((kind for kind, starts in KINDS.items() if starts(content)), None)
    if kind is None:
        raise ValueError(f"{picture.path}: neither a PNG nor a WebP file")
    inlined = base64.b64encode(content).decode("ascii")
    alt = html.escape(picture.alt or picture.caption, quote=True)
    return (
        f"<figure><figcaption>{html.escape(picture.caption)}</figcaption>"
        f'<img alt="{alt}" src="data:image/{kind};base64,{inlined}"></figure>'
    )
