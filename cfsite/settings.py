"""All settings, from the environment or from ``.env``; ``.env.example`` lists them with their defaults."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF

from cfsite import keys
from cfsite.environment import Env
from files_app.access.hosts import AllowedHosts
from files_app.hosting.certificates import is_self_made

BASE_DIR = Path(__file__).resolve().parent.parent


env = Env()
env.read_env(BASE_DIR / ".env")
if "STRAIGHT_DOWNLOADS" in os.environ:  # the name that this setting had before
    os.environ.setdefault("DIRECT_DOWNLOADS", os.environ["STRAIGHT_DOWNLOADS"])

# --- the file server

SERVER_HOST = env.str("SERVER_HOST", "127.0.0.1")
SERVER_PORT = env.number("SERVER_PORT", 9999, 0, 65_535)
FILES_DIRECTORY = BASE_DIR / env.str("FILES_DIRECTORY", "server_files")
SLEEP_TIME = env.number("SLEEP_TIME", 0.0, 0.0, 3600.0)  # seconds between two chunks; 0: full speed
BUFFER_SIZE = env.number("BUFFER_SIZE", 1000, 1, 1 << 30)  # bytes in a chunk, when there is a pace
MAX_CLIENTS = env.number("MAX_CLIENTS", 1000, 1, 1_000_000)
MAX_CLIENTS_PER_ADDRESS = env.number("MAX_CLIENTS_PER_ADDRESS", 0, 0, 1_000_000)
MAX_UPLOAD_SIZE = env.number("MAX_UPLOAD_SIZE", 0, 0, 1 << 62)  # bytes; 0: as much as the disk takes
MIN_FREE = env.number("MIN_FREE", 512, 0, 1 << 30)  # MiB of the disk that uploads leave free, at most 5 %
# That a broken upload can be resumed, and that what is known of a vanished file is kept.
PARTIAL_UPLOAD_HOURS = env.number("PARTIAL_UPLOAD_HOURS", 24.0, 0.01, 876_000.0)
GONE_FILE_DAYS = env.number("GONE_FILE_DAYS", 30.0, 0.0, 36_500.0)
WORKER_MODEL = env.str("WORKER_MODEL", "leader_followers")  # which thread serves which client
DIRECT_DOWNLOADS = env.flag("DIRECT_DOWNLOADS", True)  # browsers that reach its port download from there
SERVER_PUBLIC_URL = env.str("SERVER_PUBLIC_URL", "")  # empty: the host of the page, and SERVER_PORT

# --- TLS, on both ports

TLS_CERT = env.file("TLS_CERT", "", BASE_DIR)  # PEM, those of its issuers behind it; empty: no TLS
TLS_KEY = env.file("TLS_KEY", "", BASE_DIR)
REQUIRE_TLS = env.flag("REQUIRE_TLS", False)  # without it, listen on this machine only
# How the commands find out whom they speak to, where it is not the server of these settings.
CFS_TLS = env.flag("CFS_TLS", False)
CFS_CAFILE = env.str("CFS_CAFILE", "")
CFS_FINGERPRINT = env.str("CFS_FINGERPRINT", "")

# --- the site

WEB_HOST = env.str("WEB_HOST", "127.0.0.1")
WEB_PORT = env.number("WEB_PORT", 8000, 0, 65_535)
DEBUG = env.flag("DEBUG", False)
# On the network, the addresses and names of this machine too.
ALLOWED_HOSTS = AllowedHosts(env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"]))
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SECRET_KEY_FILE = BASE_DIR / ".secret_key"
SECRET_KEY = env.str("SECRET_KEY", "") or keys.load_or_make(SECRET_KEY_FILE)
# Proxies in front, as addresses or networks: they say who asks, in one of two ways.
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES", [])
PROXY_HEADER = env.choice("PROXY_HEADER", "x-forwarded", ["x-forwarded", "forwarded"])
REMOTE_USER_HEADER = env.str("REMOTE_USER_HEADER", "")  # in which they say who is logged in
PUBLIC_URL = env.url("PUBLIC_URL", "").rstrip("/")  # of the page, for links and codes that are handed on
FORCE_SCRIPT_NAME = env.sub_path("FORCE_SCRIPT_NAME", "")  # the sub-path that the site is in
HTTPS = env.flag("HTTPS", False)  # the site is reached through a proxy that speaks https

if PUBLIC_URL:
    ALLOWED_HOSTS.append(str(urlsplit(PUBLIC_URL).hostname))
    CSRF_TRUSTED_ORIGINS.append("{0.scheme}://{0.netloc}".format(urlsplit(PUBLIC_URL)))

INSTALLED_APPS = [
    "files_app",  # before daphne: its runserver is Daphne's, with flow control
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "csp",
]
MIDDLEWARE = [  # those of cfsite.middleware are Django's, without a thread for each step
    "cfsite.caching.CachingMiddleware",  # first, for it completes what the others answer
    "cfsite.middleware.SecurityMiddleware",
    "cfsite.middleware.CommonMiddleware",  # refuses unknown hosts, so before everything that answers
    "files_app.middleware.DatabaseMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "cfsite.middleware.CSPMiddleware",
    "cfsite.middleware.SessionMiddleware",
    "cfsite.middleware.CsrfViewMiddleware",
    "cfsite.middleware.AuthenticationMiddleware",
    "files_app.middleware.AccessMiddleware",
    "cfsite.middleware.MessageMiddleware",
    "cfsite.middleware.XFrameOptionsMiddleware",
]
# They look for Django's own names above: security, clickjacking, and the forgery of requests.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]
ROOT_URLCONF = "cfsite.urls"
ASGI_APPLICATION = "cfsite.asgi.application"
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "files_app.views.form.DiskUploadHandler",
]
WEB_SERVER = "cfsite.webserver.server.SiteServer"  # what runserver runs
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- data

DATABASES = {"default": env.database("DATABASE_URL", "sqlite:///db.sqlite3")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["ENGINE"] = (
        "files_app.sqlite3"  # which makes no empty database in place of a lost one
    )
    DATABASES["default"]["NAME"] = BASE_DIR / DATABASES["default"]["NAME"]
    DATABASES["default"]["OPTIONS"] = {
        # Readers and the one writer do not wait for each other, and a write transaction that begins
        # DEFERRED would fail at once under another writer, however long the timeout.
        # A checkpoint each 4,000 pages in place of 1,000: one that many rows change is copied once.
        # A reader that stays for long lets the log grow; after it the file is cut to 64 MiB again.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=4000; "
        "PRAGMA journal_size_limit=67108864;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", "")
CHANNEL_LAYERS = {
    "default": (
        {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}

# --- people

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # of older accounts, until their next login
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        *("UserAttributeSimilarityValidator", "MinimumLengthValidator"),
        *("CommonPasswordValidator", "NumericPasswordValidator"),
    )
]

MAX_LINKS_PER_HOUR = env.number("MAX_LINKS_PER_HOUR", 60, 1, 1_000_000)  # that one person may make

# --- languages, static files

LANGUAGE_CODE = "en"
TIME_ZONE = env.time_zone("TIME_ZONE", "UTC")  # of the admin and the log; the pages use the viewer's
USE_TZ = True
STATIC_URL = f"{FORCE_SCRIPT_NAME or ''}/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
SERVESTATIC_USE_FINDERS = True  # no collectstatic needed, with DEBUG off too
SERVESTATIC_AUTOREFRESH = DEBUG
SERVESTATIC_ALLOW_ALL_ORIGINS = False

# --- what a browser may do here

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Cookies know no ports: names of our own keep apart what else runs on localhost.
SESSION_COOKIE_NAME = "cfs_session"
CSRF_COOKIE_NAME = "cfs_csrf"
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = FORCE_SCRIPT_NAME or "/"
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS or bool(TLS_CERT)
if HTTPS:  # as the proxy says, which ``files_app.access.proxies`` believes if it is one of ours
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
elif TLS_CERT:
    # The port of the site answers plain HTTP with a redirect by itself. What else its host serves, and its
    # subdomains, are not ours to decide about.
    SILENCED_SYSTEM_CHECKS += ["security.W005", "security.W008", "security.W021"]
    if is_self_made(TLS_CERT):
        # A browser that was told HSTS lets nobody pass by a warning any more, for a year and on all ports of
        # the host: also not when the certificate is made anew, or the next program on localhost has none.
        SILENCED_SYSTEM_CHECKS += ["security.W004"]
    else:
        SECURE_HSTS_SECONDS = 31_536_000

# --- the log

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {message}", "datefmt": "%H:%M:%S", "style": "{"},
        "one_line": {
            "()": "cfsite.webserver.lines.OneLine",
            "fmt": "{asctime} {message}",
            "datefmt": "%H:%M:%S",
            "style": "{",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
        "one_line": {"class": "logging.StreamHandler", "formatter": "one_line"},
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
        # A line for each request, or for each that a client got wrong, is of no use here.
        "django.channels.server": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},
        # What a stranger sends wrong is not a fault of the program: no traceback.
        "django.security": {"handlers": ["one_line"], "propagate": False},
        "fileserver": {"level": "INFO"},
        "files_app": {"level": "INFO"},
    },
}
