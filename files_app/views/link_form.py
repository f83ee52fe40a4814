"""What somebody says who makes a link, or changes one."""

from datetime import UTC, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from files_app.access.links import maker_rights
from files_app.access.policy import may
from files_app.models.links import Link
from fileserver.names import BadName, check_safe, composed
from fileserver.rights import Principal

MIB = 1 << 20
RIGHTS_IN_WORDS = {"share": "share", "list": "see", "get": "download", "add": "upload"}


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]
    """``ends`` is a time of the browser's clock, ``offset`` that clock's distance from UTC in minutes.

    Where a browser runs no scripts there is no offset, and the time is one of ``TIME_ZONE``.
    """

    ends = forms.DateTimeField(required=False, input_formats=["%Y-%m-%dT%H:%M"])
    offset = forms.IntegerField(required=False, min_value=-1440, max_value=1440, widget=forms.HiddenInput)
    new_password = forms.CharField(required=False, max_length=128, strip=False)
    drop_password = forms.BooleanField(required=False)
    max_file_mib = forms.IntegerField(required=False, min_value=1, max_value=1 << 30)
    max_total_mib = forms.IntegerField(required=False, min_value=1, max_value=1 << 30)

    class Meta:
        model = Link
        fields = ("kind", "target", "title", "max_downloads", "max_files", "endings", "naming", "names")

    def __init__(self, *args: Any, maker: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._maker = maker
        if self.instance.pk is not None:  # what it leads to is what it is
            del self.fields["kind"], self.fields["target"]

    def clean_target(self) -> str:
        target = composed(self.cleaned_data["target"].strip().lstrip("/"))
        try:
            if target:
                check_safe(target.removesuffix("/"))
        except BadName as error:
            raise forms.ValidationError(str(error)) from None
        return target

    def clean_names(self) -> str:
        return "\n".join(name for line in self.cleaned_data["names"].splitlines() if (name := line.strip()))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        self._check_rights(given)
        self._check_end(given)
        if given.get("naming") == Link.Naming.LIST and not given.get("names"):
            self.add_error("names", "Say which names can be picked, one a line.")
        return given

    def _check_rights(self, given: dict[str, Any]) -> None:
        kind = given.get("kind") or self.instance.kind
        target = given.get("target", self.instance.target)
        if not kind or "target" not in self.fields:
            return
        if kind == Link.Kind.DROP and target and not target.endswith("/"):
            target = given["target"] = f"{target}/"  # files are handed in to a folder
        missing = [right for right in maker_rights(kind) if not may(self._maker, right, target)]
        if missing:
            words = ", ".join(RIGHTS_IN_WORDS[right] for right in missing)
            self.add_error("target", f"You may not {words} there yourself.")

    def _check_end(self, given: dict[str, Any]) -> None:
        ends, offset = given.get("ends"), given.get("offset")
        if ends is None:
            return
        if offset is not None:
            naive = timezone.make_naive(ends, timezone.get_default_timezone())
            ends = given["ends"] = (naive - timedelta(minutes=offset)).replace(tzinfo=UTC)
        if ends <= timezone.now():
            self.add_error("ends", "That time is over.")

    def save(self, commit: bool = True) -> Link:
        link: Link = super().save(commit=False)
        given = self.cleaned_data
        link.expires_at = given["ends"]
        if given["new_password"]:
            link.password = make_password(given["new_password"])
        elif given["drop_password"]:
            link.password = ""
        link.max_file_size = given["max_file_mib"] and given["max_file_mib"] * MIB
        link.max_total_size = given["max_total_mib"] and given["max_total_mib"] * MIB
        if commit:
            link.save()
        return link


def initial_of(link: Link) -> dict[str, Any]:
    return {
        "max_file_mib": link.max_file_size and link.max_file_size // MIB,
        "max_total_mib": link.max_total_size and link.max_total_size // MIB,
    }


def time_zone_name() -> str:
    return str(settings.TIME_ZONE)
