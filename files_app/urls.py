"""The URLs of the site."""

from django.urls import path, re_path

from files_app.access.links import TOKEN
from files_app.views import accounts, api, check_access, drops, form, links, shares, token_pages
from files_app.views import pages as views
from files_app.views import tus as uploads

# The words before the secret part are for people: any will do.
BY_LINK = rf"(?:[^/]{{1,60}}-)?(?P<token>{TOKEN})"

urlpatterns = [
    path("", views.index, name="index"),
    # Any name gets to the file server, which says in a sentence what is wrong with it.
    re_path(r"^files/(?P<name>[\s\S]+)\Z", views.served_file, name="file"),
    path("uploads", uploads.uploads),  # a redirect would make a GET of the POST
    path("uploads/", uploads.uploads, name="uploads"),
    path("uploads/<str:upload_id>", uploads.upload, name="upload"),
    path("upload/", form.upload_form, name="upload-form"),
    path("history/", views.history, name="history"),
    path("history/recent/", views.recent, name="recent"),
    path("address/", views.address, name="address"),
    path("login/", accounts.Login.as_view(), name="login"),
    path("logout/", accounts.Logout.as_view(), name="logout"),
    path("account/", accounts.Account.as_view(), name="account"),
    path("account/sessions/end/", accounts.end_sessions, name="end-sessions"),
    path("account/tokens/", token_pages.account_tokens, name="tokens"),
    path("account/tokens/<int:pk>/revoke/", token_pages.revoke_token, name="revoke-token"),
    path("transfers/<int:transfer_id>/cancel/", views.cancel, name="cancel"),
    path("access/", check_access.check_access, name="check-access"),
    path("links/", links.links, name="links"),
    path("links/new/", links.new_link, name="new-link"),
    path("links/<int:pk>/", links.link_page, name="link"),
    path("links/<int:pk>/revoke/", links.revoke_link, name="revoke-link"),
    path("links/<int:pk>/rebind/", links.rebind_link, name="rebind-link"),
    re_path(rf"^s/{BY_LINK}/\Z", shares.share, name="share"),
    re_path(rf"^s/{BY_LINK}/files/(?P<name>[\s\S]+)\Z", shares.shared_file, name="shared-file"),
    re_path(rf"^d/{BY_LINK}/\Z", drops.drop, name="drop"),
    re_path(rf"^d/{BY_LINK}/receipts/\Z", drops.receipts, name="receipts"),
    re_path(rf"^d/{BY_LINK}/upload/\Z", drops.form, name="drop-form"),
    re_path(rf"^d/{BY_LINK}/uploads/\Z", drops.uploads, name="drop-uploads"),
    re_path(rf"^d/{BY_LINK}/uploads/(?P<upload_id>[^/]+)\Z", drops.upload, name="drop-upload"),
    re_path(rf"^d/{BY_LINK}/files/(?P<name>[\s\S]+)\Z", drops.put, name="drop-file"),
    path("api/files", api.api_files, name="api-files"),
    path("api/history", api.api_history, name="api-history"),
    path("api/status", api.api_status, name="api-status"),
]
