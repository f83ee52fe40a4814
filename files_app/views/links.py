"""``/links/``: what somebody with an account shares, and has handed in to them."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from files_app.access.audit import Action, record
from files_app.access.links import address_of_link, new_address
from files_app.access.policy import may, require_person
from files_app.models import File, Transfer
from files_app.models.links import Link, LinkUpload, default_end
from files_app.qr import qr_svg
from files_app.views.link_form import LinkForm, initial_of, time_zone_name
from files_app.views.relay import HTTP_STATUS, Offline, blocking_client, error_response
from fileserver.rights import MANAGE, Principal
from fileserver.wire.replies import ErrorReply

SHOWN = 100  # uses of a link on its page
SUGGESTED = 500  # files and folders in the list of the form


@require_safe
def links(request: HttpRequest) -> HttpResponse:
    own = _links_of(_person(request)).select_related("maker")
    complete = Count("uploads", filter=Q(uploads__state=LinkUpload.State.COMPLETE), distinct=True)
    rows = own.annotate(handed_in=complete, fetched=Count("downloads", distinct=True))
    return render(request, "links.html", {"links": [_shown(link) for link in rows]})


@require_http_methods(["GET", "HEAD", "POST"])
def new_link(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    maker = Principal("user", person.username, key=person.pk)
    if request.method != "POST":
        first = {"kind": "share", "target": request.GET.get("target", ""), "naming": "required"}
        return _form_page(request, LinkForm(maker=maker, initial=first), ends=default_end())
    form = LinkForm(request.POST, maker=maker)
    if form.is_valid() and _has_made_too_many(person):
        form.add_error(None, "You have made many links within an hour. Wait a while.")
    if not form.is_valid():
        return _form_page(request, form)
    link = form.save(commit=False)
    link.maker = person
    try:
        link.target, link.identity = target_of(link)
    except ErrorReply as error:
        form.add_error("target", error.message)
        return _form_page(request, form)
    except Offline as error:
        return error_response(request, 503, str(error))
    new_address(link)
    link.save()
    record(Action.LINK_MADE, str(link))
    return redirect("link", link.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def link_page(request: HttpRequest, pk: int) -> HttpResponse:
    link = _own_link(request, pk)
    maker = Principal("user", key=link.maker_id)
    if request.method == "POST":
        form = LinkForm(request.POST, instance=link, maker=maker)
        if form.is_valid():
            form.save()
            record(Action.LINK_CHANGED, str(link))
            return redirect("link", link.pk)
    else:
        form = LinkForm(instance=link, maker=maker, initial=initial_of(link))
    uploads = link.uploads.filter(state=LinkUpload.State.COMPLETE)
    uses = Transfer.objects.filter(principal=f"link:{link.pk}").newest()
    context = {"link": _shown(link), "uploads": uploads[:SHOWN], "uses": uses[:SHOWN]}
    return _form_page(request, form, ends=link.expires_at, **context)


@require_POST
def revoke_link(request: HttpRequest, pk: int) -> HttpResponse:
    link = _own_link(request, pk)
    if link.revoked_at is None:
        link.revoked_at = timezone.now()
        link.save()
        record(Action.LINK_REVOKED, str(link))
    return redirect("links")


@require_POST
def rebind_link(request: HttpRequest, pk: int) -> HttpResponse:
    """What has taken the place of the shared file or folder is what the maker wants to share."""
    link = _own_link(request, pk)
    try:
        link.target, link.identity = target_of(link)
    except ErrorReply as error:
        return error_response(request, HTTP_STATUS.get(error.code, 502), error.message)
    except Offline as error:
        return error_response(request, 503, str(error))
    link.save()
    record(Action.LINK_CHANGED, str(link))
    return redirect("link", link.pk)


def target_of(link: Link) -> tuple[str, str]:
    """The name that the file or folder has on the disk, and what tells it from others.

    A folder may be given without its slash; one that files are to be handed in to is made if it is not there,
    and stays when it is empty. Raises ``ErrorReply`` and ``Offline``.
    """
    name = link.target
    with blocking_client() as client:
        try:
            if link.kind == Link.Kind.DROP and name:
                state = client.request("MKDIR", name=name)
            else:
                state = client.request("STAT", name=name, identity=True)
        except ErrorReply as error:
            if error.code != "not-a-file" or name.endswith("/"):
                raise
            state = client.request("STAT", name=f"{name}/", identity=True)
    return state["name"], state["identity"]


# --- whose links


def _person(request: HttpRequest) -> User:
    """A link is somebody's: what they may do, it may do."""
    why = "Log in to make links: a link is good as long as its maker may do what it is for."
    return require_person(request, why)


def _links_of(person: User) -> QuerySet[Link]:
    manages = may(Principal("user", key=person.pk), MANAGE, "")
    return Link.objects.all() if manages else Link.objects.filter(maker=person)


def _own_link(request: HttpRequest, pk: int) -> Link:
    link = _links_of(_person(request)).filter(pk=pk).first()
    if link is None:
        raise Http404
    return link


def _has_made_too_many(person: User) -> bool:
    recent = Link.objects.filter(maker=person, made_at__gt=timezone.now() - timedelta(hours=1))
    return bool(recent.count() >= settings.MAX_LINKS_PER_HOUR)


# --- pages


def _shown(link: Any) -> Any:
    """The link, with its address and its state in words."""
    link.address = address_of_link(link)
    link.state = "taken back" if link.revoked_at else "over" if link.is_over else "good"
    return link


def _form_page(request: HttpRequest, form: LinkForm, ends: Any = None, **context: Any) -> HttpResponse:
    context |= {"form": form, "ends": ends, "time_zone": time_zone_name()}
    link = context.get("link")
    if link is not None:
        context["qr"] = qr_svg(link.address) if link.address else ""
    else:
        context["names"] = _suggestions(request)
    return render(request, "link.html", context, status=400 if form.errors else 200)


def _suggestions(request: HttpRequest) -> list[str]:
    """Folders and files to pick from."""
    person = Principal("user", key=_person(request).pk)
    files = list(File.objects.values_list("name", flat=True).order_by("name")[:SUGGESTED])
    folders = {name[: at + 1] for name in files for at, char in enumerate(name) if char == "/"}
    return [name for name in (*sorted(folders), *files) if may(person, "share", name)]
