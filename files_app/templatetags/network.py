"""``{% load network %}``: the page's address for others, and its QR code."""

from django import template
from django.utils.safestring import SafeString, mark_safe

from files_app.access.public import is_on_network, page_url
from files_app.qr import qr_svg

register = template.Library()


@register.simple_tag
def address_for_others() -> str:
    """Empty on a server that no other machine reaches."""
    return page_url() if is_on_network() else ""


@register.filter
def qr_code(text: str) -> SafeString:
    return mark_safe(qr_svg(text))  # noqa: S308 - of numbers and constants alone
