"""The API on one page, made from its OpenAPI document: no script, nothing from another host."""

from __future__ import annotations

import json
from typing import Any

import jinja2

_PAGE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font-size: 0.95em } pre { background: #8881; padding: 0.8rem; overflow: auto }
summary { cursor: pointer } table { border-collapse: collapse }
td { padding: 0.1rem 1rem 0.1rem 0; vertical-align: top }
</style>
<h1>{{ title }}</h1>
<p>{{ summary }} The document for machines: <a href="/openapi.json">openapi.json</a>.</p>
<table>
{% for route in routes %}<tr><td><code>{{ route.method }} {{ route.path }}</code></td><td>{{ route.text }}</td></tr>
{% endfor %}</table>
<h2>Bodies</h2>
{% for name, schema in schemas.items() %}<details><summary><code>{{ name }}</code> {{ schema.get("description", "") }}
</summary><pre>{{ dump(schema.get("properties", {})) }}</pre></details>
{% endfor %}</html>
"""
)


def docs_page(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    routes = [
        {"method": method.upper(), "path": path, "text": said.get("description", said.get("summary", ""))}
        for path, methods in document["paths"].items()
        for method, said in methods.items()
    ]
    info, schemas = document["info"], document.get("components", {}).get("schemas", {})
    shown = {name: schema for name, schema in schemas.items() if "Validation" not in name}
    return _PAGE.render(
        title=info["title"],
        summary=info.get("summary", ""),
        routes=routes,
        schemas=shown,
        dump=lambda value: json.dumps(value, indent=1, ensure_ascii=False),
    )
