"""``{% load sizes %}``: ``{{ file.size|size_text }}`` and ``{{ transfer.rate|rate_text }}``."""

from django import template

from files_app.sizes import rate_text, size_text

register = template.Library()
register.filter("size_text", size_text)
register.filter("rate_text", rate_text)
