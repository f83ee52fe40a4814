"""Words that people type, as conditions on rows."""

from django.db.models import Q

from fileserver.names import forms_of

MAX_WORDS = 20  # of a search; SQLite refuses conditions that are nested too deeply


def named(word: str) -> Q:
    """Rows with ``word`` in their name, in whichever of Unicode's forms."""
    found = Q()
    for form in forms_of(word):
        found |= Q(name__icontains=form)
    return found


def words_of(text: str) -> list[str]:
    return list(dict.fromkeys(text.split()))[:MAX_WORDS]
