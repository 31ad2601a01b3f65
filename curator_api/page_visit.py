"""One request to a page: who makes it, what it asks for, and how it is answered."""

from dataclasses import dataclass
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tunemill.curator_api.page_guard import COOKIE
from tunemill.curator_api.page_source import PageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request to a page, and who makes it."""

    request: Request
    source: PageSource
    templates: jinja2.Environment
    by: str | None  # None: not signed in

    def asked(self, name: str) -> str | None:
        """A parameter in the address; None when it is missing or empty."""
        return self.request.query_params.get(name) or None

    def at(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def page(self, template: str, *, title: str, section: str, status: int = 200, **values: Any) -> Response:
        """A template filled in."""
        signed_in = None if self.by is None else COOKIE in self.request.cookies
        text = self.templates.get_template(template).render(title=title, section=section, signed_in=signed_in, **values)
        return HTMLResponse(text, status_code=status)

    @property
    def who(self) -> str:
        """Who is signed in; a guarded page has somebody."""
        assert self.by is not None  # noqa: S101  `_guarded` saw to it
        return self.by


def go(path: str) -> RedirectResponse:
    """The answer to a form that was taken: look there."""
    return RedirectResponse(path, status_code=303)
