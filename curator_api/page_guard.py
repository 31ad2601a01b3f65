"""Who may send a form, and what a form says: forms of our own pages only; the sign-in cookie."""

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from tunemill.curator_api.errors import BadRequest, Forbidden
from tunemill.curator_api.guard import is_own_origin

COOKIE = "tunemill_key"
MAX_FORM_FIELDS = 10_000


def refuse_other_sites(request: Request) -> None:
    """Let through forms of our own pages, and clients that are no browser.

    `Sec-Fetch-Site` cannot be set by a page's script; browsers without it send `Origin` with every POST.

    Raises:
        Forbidden: the form lies on a page of another site.
    """
    site = request.headers.get("sec-fetch-site")
    if not (is_own_origin(request.headers) if site is None else site in {"same-origin", "none"}):
        raise Forbidden(
            "this form was sent from a page of another site; open tunemill's own page and send it from there"
        )


async def form(request: Request) -> dict[str, str]:
    """The fields of a sent form; of a name that comes twice, the last. Line ends are `\\n`, not the `\\r\\n` that browsers send.

    Raises:
        BadRequest: the body is not a form.
    """
    try:
        text = (await request.body()).decode("utf-8")
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict")
    except ValueError as error:
        raise BadRequest("the form cannot be read: its fields must be URL-encoded UTF-8") from error
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def own_path(path: str) -> str:
    """The path to go to after signing in: one of ours, never another site's. Browsers read `//host` and `/\\host` as a host."""
    return path if path.startswith("/") and not path.startswith("//") and "\\" not in path else "/"


def remember(response: Response, key: str, *, secure: bool) -> None:
    """Keep the key in a cookie that no script can read and no other site can make the browser send."""
    response.set_cookie(COOKIE, key, max_age=30 * 24 * 3600, path="/", httponly=True, samesite="strict", secure=secure)
