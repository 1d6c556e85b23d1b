"""Self-contained HTML pages: one style, everything inline, so that a report can be mailed and archived."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

_LAYOUT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  :root { --ink: #1c2430; --soft: #5b6675; --line: #dde2e9; --back: #f6f7f9;
          --good: #1f7a4d; --bad: #b3261e; }
  * { box-sizing: border-box; }
  body { margin: 0; background: var(--back); color: var(--ink);
         font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
  main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
  h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
  p { margin: .25rem 0; } a { color: #1f5fa8; } .soft { color: var(--soft); }
  .good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
  section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 1.25rem;
            margin-top: 1.25rem; overflow-x: auto; }
  .figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; }
  .figures b { display: block; font-size: 1.35rem; font-weight: 600; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
           vertical-align: top; }
  th { color: var(--soft); font-weight: 500; } td.n, th.n { text-align: right; } td.n { white-space: nowrap; }
  code, pre { font: 13px/1.4 ui-monospace, Menlo, Consolas, monospace; } pre { margin: .25rem 0; }
  .card h2 { margin-top: 1.5rem; }
  svg { max-width: 100%; height: auto; display: block; }
</style>
</head>
<body><main>
"""
GATES_TABLE: Final = """{% macro gates_table(gates) %}
<table><tr><th>gate<th class="n">figure<th class="n">bar<th>verdict<th>detail</tr>
{% for gate in gates %}
<tr><td>{{ gate.name }}<td class="n">{{ "%.4g" | format(gate.figure) }}
    <td class="n">{{ "≥" if gate.better == "higher" else "≤" }} {{ "%.4g" | format(gate.bar) }}
    <td><span class="{{ "good" if gate.passed else "bad" }}">{{ gate.verdict }}</span>
    <td>{{ gate.detail }}</tr>
{% endfor %}
</table>
{% endmacro %}"""  # a macro, to go before a body that calls it
_JINJA: Final = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(body: str, **values: Any) -> str:
    """A page with the Jinja `body` filled in; `values` (`title` among them) are escaped."""
    return _JINJA.from_string(_LAYOUT + body + "</main></body></html>\n").render(**values)


def write_whole(path: Path, text: str) -> Path:
    """Write `text` so that a reader finds the old file or the new one, never a part; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False) as draft:
        draft.write(text)
    os.chmod(draft.name, 0o644)
    os.replace(draft.name, path)
    return path
