"""Who comes by a link, as far as it can be told: by a cookie of ours, else by address and program."""

import hashlib
import re
import secrets

from django.core import signing
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from files_app.access.principals import address_of

COOKIE = "cfs_visitor"
SALT = "files_app.access.visitors"
SECONDS = 30 * 86_400

# They fetch what a link leads to in order to show a picture of it, in the moment in which somebody sends it.
_PREVIEWS = re.compile(
    r"facebookexternalhit|facebot|whatsapp|slackbot|slack-imgproxy|twitterbot|telegrambot|discordbot|"
    r"linkedinbot|skypeuripreview|microsoftpreview|pinterest|mastodon|matrix|synapse|signal|viber|iframely|"
    r"embedly|redditbot|googlebot|google-pagerenderer|bingbot|bingpreview|applebot|yandexbot|duckduckbot|"
    r"baiduspider|vkshare|snapchat|zoombot|mattermost|rocket\.chat",
    re.IGNORECASE,
)


def is_preview(request: HttpRequest) -> bool:
    """Whether this is a program that makes previews of links, and says so."""
    return _PREVIEWS.search(request.headers.get("User-Agent", "")) is not None


def visitor_of(request: HttpRequest) -> str:
    """The same for all requests of one browser, and no other's."""
    if cookie := _cookie_of(request):
        return cookie
    who = f"{address_of(request)} {request.headers.get('User-Agent', '')}"
    return hashlib.sha256(who.encode("utf-8", "replace")).hexdigest()[:32]


def remember_visitor(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Have the browser say next time that it is the same; whether it has not said so this time."""
    if _cookie_of(request) is not None:
        return False
    value = signing.dumps(secrets.token_hex(16), salt=SALT)
    response.set_cookie(COOKIE, value, SECONDS, httponly=True, samesite="Lax", secure=request.is_secure())
    return True


def _cookie_of(request: HttpRequest) -> str | None:
    try:
        return str(signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=SECONDS))
    except signing.BadSignature:
        return None
