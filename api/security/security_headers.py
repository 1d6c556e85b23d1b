"""Headers that tell browsers and caches to be careful, and the page `/docs` with a policy that lets it work.

What is served is JSON for programs, so a browser may do nothing with it. `/docs` alone runs a script: Swagger UI
from FastAPI's usual CDN. Its policy names that folder of the CDN and the page's own script by its hash, and lets
the page talk to this service only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

_NOSNIFF: Final = ("x-content-type-options", "nosniff")
_NO_REFERRER: Final = ("referrer-policy", "no-referrer")
_POLICY: Final = ("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
API_HEADERS: Final = (_NOSNIFF, ("cache-control", "no-store"), _POLICY)  # of all under /v1
PAGE_HEADERS: Final = (_NOSNIFF, _NO_REFERRER)  # of all others, which have a policy of their own or none
TLS_HEADERS: Final = (("strict-transport-security", "max-age=31536000"),)  # where a request came by TLS

_CDN: Final = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def raw(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    """`headers` as ASGI sends them."""
    return [(name.encode(), value.encode()) for name, value in headers]


def add_docs(app: FastAPI) -> None:
    """Serves `/docs` under a policy of its own; `app` is made with `docs_url=None`."""

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{_CDN}swagger-ui-bundle.js",
            swagger_css_url=f"{_CDN}swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        page.headers["content-security-policy"] = _docs_policy(bytes(page.body).decode())
        return page


def _docs_policy(page: str) -> str:
    (script,) = _INLINE.findall(page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' {_CDN}; style-src 'unsafe-inline' {_CDN}; "
        "img-src data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
