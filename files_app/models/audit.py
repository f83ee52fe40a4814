"""What was done that matters to who may do what: logins, rules, tokens, links."""

from django.db import models


class AuditEvent(models.Model):
    """One row for each; ``access.audit`` writes them, and nothing changes them."""

    class Action(models.TextChoices):
        LOGIN = "login", "logged in"
        LOGIN_FAILED = "login-failed", "login failed"
        LOGOUT = "logout", "logged out"
        SESSIONS_ENDED = "sessions-ended", "logged out everywhere"
        PASSWORD = "password", "password changed"
        PERSON = "person", "account changed"
        PERSON_DELETED = "person-deleted", "account deleted"
        GROUP = "group", "group changed"
        GROUP_DELETED = "group-deleted", "group deleted"
        RULE = "rule", "rule changed"
        RULE_DELETED = "rule-deleted", "rule deleted"
        TOKEN_MADE = "token-made", "token made"
        TOKEN_USED = "token-used", "token used"
        TOKEN_REVOKED = "token-revoked", "token revoked"
        LINK_MADE = "link-made", "link made"
        LINK_CHANGED = "link-changed", "link changed"
        LINK_USED = "link-used", "link used"
        LINK_REFUSED = "link-refused", "link refused"
        LINK_REVOKED = "link-revoked", "link revoked"
        THROTTLED = "throttled", "too many tries"

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    action = models.CharField(max_length=16, choices=Action)
    about = models.CharField(max_length=1024, blank=True, help_text="which account, folder, token or link")
    by = models.CharField(max_length=150, blank=True, help_text="the name at that time; empty: a guest")
    principal = models.CharField(max_length=32, blank=True, help_text="empty: a program on this machine")
    address = models.CharField(max_length=64, blank=True)

    class Meta:
        verbose_name = "event"
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.get_action_display()}: {self.about}"
