"""What the pages and the JSON list: the files and the transfers that whoever asks may see."""

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from files_app.access.policy import is_allowed, may_list_folder, require
from files_app.access.principals import principal_of
from files_app.access.public import server_address
from files_app.models import File, Transfer
from files_app.models.transfers import TransferQuerySet
from fileserver.pacing import SLOW_MOTION
from fileserver.rights import DELETE, GET, SHARE, WATCH

PER_PAGE = 50


def require_history(request: HttpRequest) -> None:
    """Everybody with an account has their own; that of all is for those who may watch."""
    if principal_of(request).user is None:
        require(request, WATCH)


def seen_transfers(request: HttpRequest) -> TransferQuerySet:
    """The transfers that whoever asks may see."""
    if is_allowed(request, WATCH):
        return Transfer.objects.all()
    return Transfer.objects.of_user(principal_of(request).user)


def files_context(request: HttpRequest) -> dict[str, Any]:
    query, sort = request.GET.get("q", "").strip(), request.GET.get("sort", "name")
    visible = File.objects.in_folders(may_list_folder(principal_of(request)))
    totals = visible.aggregate(total=Count("*"), total_size=Coalesce(Sum("size"), 0))
    page = _page(
        request,
        visible.matching(query).sorted_by(sort).with_downloads(),
        None if query else totals["total"],
    )
    has_account = principal_of(request).user is not None
    for file in page:
        file.may_get = is_allowed(request, GET, file.name)
        file.may_delete = is_allowed(request, DELETE, file.name)
        file.may_share = has_account and is_allowed(request, SHARE, file.name)
    return {
        "page": page,
        "query": query,
        "sort": sort if sort in File.objects.all().SORTS else "name",
        **totals,
        "slow_motion": str(SLOW_MOTION),
    }


def history_context(request: HttpRequest) -> dict[str, Any]:
    query = request.GET.get("q", "").strip()
    choices = {"outcome": Transfer.Outcome, "direction": Transfer.Direction, "via": Transfer.Via}
    chosen = {field: request.GET.get(field, "") for field in choices}
    chosen = {field: value if value in choices[field].values else "" for field, value in chosen.items()}
    transfers = seen_transfers(request).newest().matching(text=query, **chosen).select_related("file")
    lists = {f"{field}s": kinds.choices for field, kinds in choices.items()}
    return {"page": _page(request, transfers), "query": query, **chosen, **lists, "address": server_address()}


def _page(request: HttpRequest, rows: QuerySet[Any], count: int | None = None) -> "Page[Any]":
    paginator = Paginator(rows, PER_PAGE)
    if count is not None:  # known already: it is not asked for again
        paginator.count = count
    return paginator.get_page(request.GET.get("page"))
