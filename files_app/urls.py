"""The URLs of the site."""

from django.urls import path, re_path

from files_app.views import accounts, api, form
from files_app.views import pages as views
from files_app.views import tus as uploads

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
    path("transfers/<int:transfer_id>/cancel/", views.cancel, name="cancel"),
    path("api/files", api.api_files, name="api-files"),
    path("api/history", api.api_history, name="api-history"),
    path("api/status", api.api_status, name="api-status"),
]
