"""What a link may still give and take: claimed at once, before the first byte, and given back if none moves.

All functions use the database. Claims of one link are made one after another, so that fifty requests at once
cannot share what is left for one.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.utils import timezone

from files_app.access.senders import Sender, folder_of
from files_app.models.links import Link, LinkDownload, LinkUpload
from files_app.sizes import size_text


class NothingLeft(Exception):
    """The link gives, or takes, no more of that; the text is a sentence for its visitor."""


# --- downloads

RESUMED_WITHIN = timedelta(days=1)


def claim_download(
    link_id: int, visitor: str, name: str, size: int, length: int, is_part: bool
) -> int | None:
    """Claim ``length`` bytes of a file; the key for ``end_download``, ``None`` without a limit.

    Parts, and what is resumed after a break, belong to the download that the visitor has begun, as long as
    together they are at most twice the file: bytes that got lost on their way have left here, too. A visitor
    who asks for the whole file while it is on its way, or has it, begins another download. Raises
    ``NothingLeft``.
    """
    with transaction.atomic():
        link = _locked(link_id)
        if link.max_downloads is None:
            return None
        begun = link.downloads.filter(
            visitor=visitor, name=name, size=size, at__gt=timezone.now() - RESUMED_WITHIN
        )
        last = begun.order_by("-pk").first()
        if last is not None and _belongs_to(last, length, is_part):
            link.downloads.filter(pk=last.pk).update(granted=F("granted") + length)
            return last.pk
        if link.downloads.count() >= link.max_downloads:
            raise NothingLeft("This link has been used as often as it may be.")
        return link.downloads.create(visitor=visitor, name=name, size=size, granted=length).pk


def _belongs_to(last: LinkDownload, length: int, is_part: bool) -> bool:
    if not is_part and (last.granted or last.moved >= last.size):
        return False
    return last.granted + last.moved + length <= 2 * last.size


def end_download(key: int, length: int, moved: int) -> None:
    """Of the ``length`` bytes that were claimed, ``moved`` have left. A download of none was none."""
    with transaction.atomic():
        mine = LinkDownload.objects.filter(pk=key)
        mine.update(granted=F("granted") - length, moved=F("moved") + moved)
        mine.filter(granted__lte=0, moved=0, size__gt=0).delete()


def _locked(link_id: int) -> Link:
    """SQLite locks all that a transaction writes to, from its first statement on."""
    return Link.objects.select_for_update().get(pk=link_id)


# --- uploads


def claim_upload(link_id: int, row: LinkUpload) -> None:
    """Save ``row``, a file that is about to be handed in, with the folder of its sender.

    Raises ``NothingLeft`` if it is too much.
    """
    with transaction.atomic():
        link = _locked(link_id)
        _require_fitting(link, row.name, row.size)
        held = _held(link)
        own = held.filter(sender_key=row.sender_key).count()
        if link.max_files is not None and own >= link.max_files:
            raise NothingLeft(f"Each sender may hand in {link.max_files} files here, and you have.")
        if link.max_total_size is not None:
            total = held.aggregate(total=Sum("size"))["total"] or 0
            if total + row.size > link.max_total_size:
                left = size_text(max(0, link.max_total_size - total))
                raise NothingLeft(f"This drop box has room for only {left} more.")
        row.folder = folder_of(link, Sender(row.sender, row.sender_key))
        row.save()


def _require_fitting(link: Link, name: str, size: int) -> None:
    if link.max_file_size is not None and size > link.max_file_size:
        raise NothingLeft(f"A file may have at most {size_text(link.max_file_size)} here.")
    endings = link.allowed_endings
    if endings and not name.lower().endswith(endings):
        raise NothingLeft(f"The names of files must end in {', '.join(endings)} here.")


def _held(link: Link) -> QuerySet[LinkUpload]:
    """What has come, and what may still come: an upload that broke off is kept for a while."""
    since = timezone.now() - timedelta(hours=settings.PARTIAL_UPLOAD_HOURS)
    complete = Q(state=LinkUpload.State.COMPLETE)
    return LinkUpload.objects.filter(complete | Q(begun_at__gt=since), link=link)


def end_upload(row: LinkUpload, stored: str, sha256: str) -> None:
    """It is a file now, under the name ``stored``."""
    row.state, row.ended_at = LinkUpload.State.COMPLETE, timezone.now()
    row.stored, row.sha256 = stored, sha256
    row.save()


def forget_upload(row: LinkUpload) -> None:
    """Nothing of it was kept."""
    LinkUpload.objects.filter(pk=row.pk, state=LinkUpload.State.RUNNING).delete()
