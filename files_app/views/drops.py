"""``/d/…``: where somebody hands in files who has the address of a drop, and sees nothing but their own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from files_app.access.claims import NothingLeft, claim_upload, end_upload, forget_upload
from files_app.access.links import label_of
from files_app.access.origin import require_own_page
from files_app.access.principals import principal_of
from files_app.access.senders import BadSender, sender_of
from files_app.access.visitors import visitor_of
from files_app.models.links import Link, LinkUpload
from files_app.views import tus
from files_app.views.bodies import PIECE, body_of, length_of, packing_of
from files_app.views.by_link import by_link, require_still_there, unlock, without_names
from files_app.views.doors import Asked, Door
from files_app.views.relay import connect, error_response, on_behalf_of, unpacked_only
from files_app.views.tus_answers import Method, serve, with_tus
from files_app.views.tus_headers import Refused, text_in
from fileserver.names import BadName, check_portable, composed
from fileserver.rights import Principal
from fileserver.wire.replies import ErrorReply

SENDER = "sender"  # in the metadata of tus, in the form, and in the query of a PUT


@require_http_methods(["GET", "HEAD", "POST"])
async def drop(request: HttpRequest, token: str) -> HttpResponseBase:
    if request.method == "POST":
        return await sync_to_async(unlock, thread_sensitive=False)(request, token, Link.Kind.DROP)
    response: HttpResponseBase = await _page(request, token=token)
    return response


@by_link(Link.Kind.DROP)
async def _page(request: HttpRequest, link: Link) -> HttpResponse:
    await require_still_there(link)
    return render(request, "drop.html", {"link": link})


@require_safe
@by_link(Link.Kind.DROP)
async def receipts(request: HttpRequest, link: Link) -> HttpResponse:
    """What this visitor has handed in, for the page."""
    own = LinkUpload.objects.filter(link=link, visitor=visitor_of(request), state=LinkUpload.State.COMPLETE)
    return render(request, "_receipts.html", {"receipts": [row async for row in own]})


# --- by tus


def _by_tus(methods: dict[str, Method], to_the_end: bool = False) -> Any:
    @by_link(Link.Kind.DROP, to_the_end)
    async def answer(request: HttpRequest, link: Link, *args: str, **names: str) -> HttpResponseBase:
        return await serve(methods, DropDoor(request, link), request, *names.values())

    @csrf_exempt  # see require_own_page, which tus asks for each change
    async def view(request: HttpRequest, **names: str) -> HttpResponseBase:
        return with_tus(await answer(request, **names))

    return view


uploads = _by_tus(tus.ALL_UPLOADS)
upload = _by_tus(tus.ONE_UPLOAD, to_the_end=True)


class DropDoor(Door):
    """Each file goes to its sender's folder, under a name that is free, if the link takes it."""

    def __init__(self, request: HttpRequest, link: Link) -> None:
        self._request = request
        self._link = link
        self._row: LinkUpload | None = None

    async def place(self, request: HttpRequest, asked: Asked) -> tuple[str, str | None]:
        typed = text_in(asked.metadata, SENDER) or ""
        self._row = await _claimed(request, self._link, typed, asked.name, asked.size)
        return _full_name(self._link, self._row), "rename"

    async def begun(self, upload_id: str) -> None:
        if self._row is not None:
            self._row.upload = upload_id
            await self._row.asave(update_fields=["upload"])

    async def failed(self) -> None:
        if self._row is not None:
            await _in_thread(forget_upload)(self._row)

    async def require_own(self, upload_id: str) -> None:
        row = await LinkUpload.objects.filter(link=self._link, upload=upload_id).afirst()
        if row is None:
            raise ErrorReply("not-found", "There is no such upload.")
        self._row = row
        self._request.principal = _as_sender(self._request, self._link, row.sender)  # type: ignore[attr-defined]

    async def ended(self, upload_id: str, name: str, sha256: str) -> None:
        if self._row is not None and self._row.state != LinkUpload.State.COMPLETE:
            await _in_thread(end_upload)(self._row, name, sha256)

    async def deleted(self, upload_id: str) -> None:
        await self.failed()

    def url_of(self, upload_id: str) -> str:
        return f"{self._request.path}{upload_id}"

    def told_name(self, name: str) -> str:
        return _own_name(self._link, self._row, name)

    def told_error(self, error: ErrorReply) -> ErrorReply:
        return without_names(error)


# --- by PUT, for curl, and by the form, for browsers without scripts


@csrf_exempt
@require_http_methods(["PUT"])
@by_link(Link.Kind.DROP)
async def put(request: HttpRequest, link: Link, name: str) -> HttpResponse:
    require_own_page(request)
    if packing := packing_of(request):
        return unpacked_only(request, packing)
    size = length_of(request)
    if size is None or "Content-Range" in request.headers:
        return error_response(request, 411, "A file is sent whole, and says how long it is (Content-Length).")
    try:
        row = await _stored(request, link, request.GET.get(SENDER, ""), name, size, body_of(request))
    except Refused as error:
        return error_response(request, error.status, str(error))
    return JsonResponse(_receipt(link, row), status=201)


@csrf_exempt
@require_POST
@by_link(Link.Kind.DROP)
async def form(request: HttpRequest, link: Link) -> HttpResponse:
    require_own_page(request)
    file = await _in_thread(lambda: request.FILES.get("file"))()  # taking it apart would hold up the others
    if file is None or not file.name:
        return error_response(request, 400, "No file was chosen.")
    try:
        await _stored(request, link, request.POST.get(SENDER, ""), file.name, file.size, _pieces(file))
    except Refused as error:
        return error_response(request, error.status, str(error))
    return redirect(request.path.removesuffix("upload/"))


async def _pieces(file: Any) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


async def _stored(
    request: HttpRequest, link: Link, typed: str, name: str, size: int, body: AsyncIterator[bytes]
) -> LinkUpload:
    """The row of a file that was handed in. Raises ``Refused``."""
    row = await _claimed(request, link, typed, name, size)
    try:
        async with await connect() as client:
            terms = {"exists": "rename", **on_behalf_of(request)}
            end = await client.put(_full_name(link, row), size, body, **terms)
    except BaseException:
        await asyncio.shield(_in_thread(forget_upload)(row))
        raise
    await _in_thread(end_upload)(row, end["name"], end["sha256"])
    return row


def _receipt(link: Link, row: LinkUpload) -> dict[str, Any]:
    """All that a sender is told."""
    assert row.ended_at is not None
    name = _own_name(link, row, row.stored)
    return {"name": name, "size": row.size, "sha256": row.sha256, "time": row.ended_at.isoformat()}


# --- what all ways share


def _in_thread(work: Callable[..., Any]) -> Callable[..., Any]:
    return sync_to_async(work, thread_sensitive=False)


async def _claimed(request: HttpRequest, link: Link, typed: str, name: str, size: int) -> LinkUpload:
    """The row of a file that may come. Raises ``Refused``."""
    try:
        name = composed(name)
        check_portable(name)
        visitor, address = visitor_of(request), principal_of(request).address
        sender = sender_of(link, typed, visitor)
        row = LinkUpload(link=link, visitor=visitor, address=address[:64], name=name, size=size)
        row.sender, row.sender_key = sender.name, sender.key
        await _in_thread(claim_upload)(link.pk, row)
    except (BadSender, BadName) as error:
        raise Refused(400, str(error)) from None
    except NothingLeft as error:
        raise Refused(413, str(error)) from None
    request.principal = _as_sender(request, link, row.sender)  # type: ignore[attr-defined]
    return row


def _as_sender(request: HttpRequest, link: Link, sender: str) -> Principal:
    return replace(principal_of(request), user=label_of(link, sender))


def _full_name(link: Link, row: LinkUpload) -> str:
    return f"{link.target}{row.folder}/{row.name}"


def _own_name(link: Link, row: LinkUpload | None, name: str) -> str:
    """A name on our disk as its sender may know it."""
    prefix = f"{link.target}{row.folder}/" if row is not None else ""
    return name[len(prefix) :] if name.startswith(prefix) else name.rpartition("/")[2]
