"""What caches may keep of our responses: nothing, unless a response says so itself.

Pages, fragments and JSON tell how things are at this moment, and have a token or a ticket in them; errors and
redirects are of this moment too, and without a word about it caches may keep many of them (RFC 9111, section
4.2.2). Only static files may be kept: theirs is the one response that brings another rule along.
"""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from files_app.async_middleware import AsyncMiddleware


class CachingMiddleware(AsyncMiddleware):
    """The outermost one, so that refusals of the others have the header too."""

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = await self.get_response(request)
        given = response.headers.get("Cache-Control")
        # The admin says five things at once, of which this one overrules the others.
        if given is None or "no-store" in given:
            response.headers["Cache-Control"] = "no-store"
        if response.status_code == 304:  # it is about what the client has, and that has its type
            response.headers.pop("Content-Type", None)
        return response
