"""``/s/…``: what somebody may fetch who has the address of a share."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from files_app.access.claims import claim_download, end_download
from files_app.access.policy import may
from files_app.access.principals import principal_of
from files_app.access.visitors import is_preview, visitor_of
from files_app.models.links import Link
from files_app.views import files as downloads
from files_app.views.by_link import by_link, require_same_target, unlock
from files_app.views.relay import connect, error_response, is_navigation
from fileserver.client.aio import AsyncClient
from fileserver.names import composed
from fileserver.rights import GET, LIST
from fileserver.wire.lines import Fields
from fileserver.wire.replies import ErrorReply
from fileserver.wire.selection import Selection

PAGE = 500  # files of a folder on one page


@require_http_methods(["GET", "HEAD", "POST"])
async def share(request: HttpRequest, token: str) -> HttpResponseBase:
    if request.method == "POST":
        return await sync_to_async(unlock, thread_sensitive=False)(request, token, Link.Kind.SHARE)
    response: HttpResponseBase = await _page(request, token=token)
    return response


@by_link(Link.Kind.SHARE)
async def _page(request: HttpRequest, link: Link) -> HttpResponseBase:
    async with await connect() as client:
        await require_same_target(client, link)
        files, more = await _files(client, request, link)
    shown = [_shown(request, link, file) for file in files]
    if not is_navigation(request):
        if not link.is_folder:
            return HttpResponseRedirect(shown[0]["url"])
        return JsonResponse({"files": shown, "more": more})
    return render(request, "share.html", {"link": link, "files": shown, "more": more})


async def _files(client: AsyncClient, request: HttpRequest, link: Link) -> tuple[list[Fields], bool]:
    """Exactly those that this visitor can fetch one by one, and whether there may be more."""
    if not link.is_folder:
        return [await client.request("STAT", name=link.target)], False
    after = link.target + request.GET["after"] if "after" in request.GET else ""
    who, files, more = principal_of(request), list[Fields](), True
    while more and not files:  # the next page begins behind a name that may be seen
        found, more = await client.list(link.target, after, PAGE)
        files = [file for file in found if all(may(who, r, composed(file["name"])) for r in (LIST, GET))]
        after = found[-1]["name"] if found else ""
    return files, more


def _shown(request: HttpRequest, link: Link, file: Fields) -> dict[str, Any]:
    """A file as its visitors see it: by its name in what is shared."""
    name = file["name"].removeprefix(link.target) if link.is_folder else file["name"].rpartition("/")[2]
    url = f"{request.path}files/{quote(name)}"
    return {"name": name, "size": file["size"], "mtime": file["mtime"], "url": url}


@require_safe
@by_link(Link.Kind.SHARE)
async def shared_file(request: HttpRequest, link: Link, name: str) -> HttpResponseBase:
    full = link.target + name if link.is_folder else link.target
    if not link.is_folder and composed(name) != composed(link.target.rpartition("/")[2]):
        raise ErrorReply("not-found", "")
    if not may(principal_of(request), GET, composed(full)):
        raise ErrorReply("not-found", "")
    async with await connect() as client:
        await require_same_target(client, link)
    if request.method == "HEAD":
        return await downloads.head(request, full)
    if is_preview(request):
        return error_response(request, 403, "Previews are not made of what this link leads to.")
    meter = None if link.max_downloads is None else LinkMeter(link.pk, visitor_of(request), full)
    return await downloads.download(request, full, meter)


class LinkMeter(downloads.Meter):
    """Counts a download against the limit of its link."""

    def __init__(self, link_id: int, visitor: str, name: str) -> None:
        self._who = (link_id, visitor, name)
        self._claims: list[tuple[asyncio.Future[int | None], int]] = []
        self._loop = asyncio.get_running_loop()

    async def begin(self, size: int, chosen: Selection) -> None:
        self.end()  # of a try after which the file has changed
        claim = partial(claim_download, *self._who, size, chosen.length, chosen.status == 206)
        future = self._loop.run_in_executor(None, _with_database, claim)
        self._claims.append((future, chosen.length))
        # If the visitor leaves now, the claim is made all the same; then it must be given back.
        await asyncio.shield(future)

    def end(self) -> None:
        for claim, length in self._claims:
            claim.add_done_callback(partial(self._give_back, length, self.moved))
        self._claims.clear()

    def _give_back(self, length: int, moved: int, claim: "asyncio.Future[int | None]") -> None:
        if claim.cancelled() or claim.exception() is not None or (key := claim.result()) is None:
            return
        # In a thread at once: nobody is left who would wait for it.
        self._loop.run_in_executor(None, _with_database, partial(end_download, key, length, moved))


def _with_database(work: Any) -> Any:
    """For a thread that is not Django's own: it must not keep its connections."""
    try:
        return work()
    finally:
        connections.close_all()
