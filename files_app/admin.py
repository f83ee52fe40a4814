"""The Django admin: the history, read-only, with filters, search and CSV; the files; the rules."""

import csv
from collections.abc import AsyncIterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from files_app.access.audit import Action, record
from files_app.access.tokens import revoke
from files_app.models import AccessRule, AuditEvent, File, Link, Quota, Token, Transfer
from files_app.models.rules import RIGHTS
from files_app.sizes import size_text
from files_app.views.streaming import Streaming

admin.site.site_header = "Concurrent File Server"
admin.site.site_title = "Concurrent File Server"
admin.site.index_title = "Files and history"


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What the file server wrote is looked at, not changed."""

    show_full_result_count = False  # counting a long history twice takes longer than showing it
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(File)
class FileAdmin(ReadOnlyAdmin):
    list_display = ("name", "nice_size", "mtime", "content_type", "downloads", "added_by")
    search_fields = ("name", "sha256")
    list_filter = ("content_type", "mtime")

    def get_queryset(self, request: HttpRequest) -> QuerySet[File]:
        files: QuerySet[File] = File.objects.with_downloads()
        return files

    @admin.display(description="size", ordering="size")
    def nice_size(self, file: File) -> str:
        return size_text(file.size)

    @admin.display(description="downloads", ordering="downloads")
    def downloads(self, file: Any) -> int:
        return int(file.downloads)


@admin.register(AccessRule)
class AccessRuleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("nice_folder", "whom", "group", "user", *(f"can_{right}" for right in RIGHTS))
    list_filter = ("whom", "group")
    search_fields = ("folder", "user__username", "group__name")
    autocomplete_fields = ("group", "user")
    fieldsets = (
        (None, {"fields": ("folder", "whom", "group", "user")}),
        ("May", {"fields": [f"can_{right}" for right in RIGHTS]}),
    )

    @admin.display(description="folder", ordering="key")
    def nice_folder(self, rule: AccessRule) -> str:
        return f"/{rule.folder}"


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "action", "about", "by", "address")
    list_filter = ("action", "at")
    search_fields = ("about", "by", "address")
    date_hierarchy = "at"


@admin.register(Quota)
class QuotaAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("__str__", "user", "group", "folder", "max_mib")
    autocomplete_fields = ("user", "group")


@admin.register(Link)
class LinkAdmin(ReadOnlyAdmin):
    list_display = ("pk", "kind", "title", "target", "maker", "made_at", "expires_at", "revoked_at")
    list_filter = ("kind", "made_at")
    search_fields = ("title", "target", "maker__username")
    exclude = ("password", "nonce", "digest")
    actions = ("take_back",)

    @admin.action(description="Take the selected links back", permissions=["view"])
    def take_back(self, request: HttpRequest, queryset: QuerySet[Link]) -> None:
        for link in queryset.filter(revoked_at=None):
            link.revoked_at = timezone.now()
            link.save()
            record(Action.LINK_REVOKED, str(link))


@admin.register(Token)
class TokenAdmin(ReadOnlyAdmin):
    list_display = ("lookup", "owner", "name", "rights", "folder", "expires_at", "used_at", "revoked_at")
    search_fields = ("lookup", "owner__username", "name")
    exclude = ("digest",)
    actions = ("revoke_selected",)

    @admin.action(description="Revoke the selected tokens", permissions=["view"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        for token in queryset.filter(revoked_at=None):
            revoke(token)
            record(Action.TOKEN_REVOKED, str(token))


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    list_display = (
        *("started_at", "name", "direction", "nice_done", "outcome", "error", "client", "user"),
        *("via", "thread", "pace", "nice_seconds"),
    )
    list_filter = ("outcome", "direction", "via", "started_at")
    search_fields = ("name", "client", "user", "error")
    date_hierarchy = "started_at"
    actions = ("export_as_csv",)

    @admin.display(description="moved", ordering="done")
    def nice_done(self, transfer: Transfer) -> str:
        return size_text(transfer.done)

    @admin.display(description="seconds", ordering="seconds")
    def nice_seconds(self, transfer: Transfer) -> str:
        return "" if transfer.seconds is None else f"{transfer.seconds:.1f}"

    @admin.action(description="Export the selected transfers as CSV", permissions=["view"])
    def export_as_csv(self, request: HttpRequest, queryset: QuerySet[Transfer]) -> Streaming:
        # An asynchronous generator: under ASGI a plain one would be read whole into memory first.
        return Streaming(
            csv_lines(queryset),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="transfers.csv"'},
        )


CSV_FIELDS = (
    *("id", "started_at", "finished_at", "direction", "name", "size", "offset", "length", "done", "outcome"),
    *("error", "verified", "client", "user", "via", "thread", "pace", "seconds"),
)


CSV_ROWS = 500  # at a time


class _Echo:
    """A file for ``csv.writer`` that gives each line back."""

    def write(self, line: str) -> str:
        return line


async def csv_lines(transfers: QuerySet[Transfer]) -> AsyncIterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(CSV_FIELDS)
    last, rows = 0, transfers.order_by("pk").values_list(*CSV_FIELDS)
    # Some at a time: a cursor that stays open while somebody reads slowly would hold up SQLite's checkpoints.
    while some := [row async for row in rows.filter(pk__gt=last)[:CSV_ROWS]]:
        yield "".join(writer.writerow([_cell(value) for value in row]) for row in some)
        last = some[-1][0]


def _cell(value: Any) -> str:
    """As text; what a spreadsheet would take for a formula is given an apostrophe first."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
