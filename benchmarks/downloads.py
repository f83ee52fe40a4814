"""Large files: over TCP, by the link of a browser, and relayed by the site; one client, and many at once."""

from benchmarks.measure import MEBIBYTE, forget_peak, peak_resident, resident, take_turns
from benchmarks.peers import COPYPARTY, NGINX_PEER, PYTHON_HTTP, STARLETTE
from benchmarks.result import (
    Result,
    Scenario,
    Target,
    bytes_table,
    ratio_to,
    ratio_to_best,
)
from benchmarks.stand import Stand

NGINX = NGINX_PEER.name
FLAT = 32 * MEBIBYTE  # bytes by which the site may grow while it relays


def one_client(stand: Stand) -> Result:
    others = stand.http([NGINX, *PYTHON_HTTP], "big.bin")
    rounds = take_turns([stand.tcp("big.bin"), *others, *stand.ftp("big.bin")], stand.bench.rounds)
    return bytes_table(rounds, [Target("≥ 0.95 of nginx", ratio_to(rounds, NGINX), 0.95)])


def crowd(stand: Stand) -> Result:
    clients = stand.bench.pick(64, 8)
    at_once = {"connections": clients, "requests": clients}
    others = stand.http([NGINX, STARLETTE.name, COPYPARTY.name], "middle.bin", **at_once)
    rounds = take_turns([stand.tcp("middle.bin", **at_once), *others], stand.bench.rounds)
    slowest = {each.name: each.median(lambda run: run.most / run.median) for each in rounds}
    targets = [
        Target("total ≥ 0.95 of nginx", ratio_to(rounds, NGINX), 0.95),
        Target("slowest client ≤ 2 × the median", slowest[rounds[0].name], 2, at_most=True),
    ]
    listed = ", ".join(f"{name} {figure:.2f}" for name, figure in slowest.items())
    return bytes_table(rounds, targets, [f"Slowest client to the median one: {listed}.", _NO_HTTP_SERVER])


_NO_HTTP_SERVER = (
    "http.server is left out of the crowd: it lets five clients wait, and the others try again after seconds."
)


def straight(stand: Stand) -> Result:
    mine = stand.straight("big.bin")
    if mine is None:
        return Result((), [], [], ["Not available: this version does not send browsers on to the server."])
    rounds = take_turns([mine, *stand.http([NGINX, *PYTHON_HTTP], "big.bin")], stand.bench.rounds)
    targets = [
        Target("≥ 0.9 of nginx", ratio_to(rounds, NGINX), 0.9),
        Target("≥ every Python peer", ratio_to_best(rounds, PYTHON_HTTP), 1),
    ]
    return bytes_table(rounds, targets)


def relayed(stand: Stand) -> Result:
    names = [NGINX, STARLETTE.name, *(name for name in PYTHON_HTTP if name != STARLETTE.name)]
    contenders = [stand.relayed("big.bin"), *stand.http(names, "big.bin")]
    contenders[0].run()  # what the site needs for its first download is not growth
    forget_peak(stand.ours.web_pid)
    before = resident(stand.ours.web_pid)
    rounds = take_turns(contenders, stand.bench.rounds)
    grown = peak_resident(stand.ours.web_pid) - before
    targets = [
        Target("≥ 0.2 of nginx", ratio_to(rounds, NGINX), 0.2),
        Target("≥ uvicorn + Starlette", ratio_to(rounds, STARLETTE.name), 1),
        Target(f"site's memory flat: grows by ≤ {FLAT // MEBIBYTE} MiB", grown / MEBIBYTE, 32, at_most=True),
    ]
    return bytes_table(rounds, targets, [f"The site had {before / MEBIBYTE:.0f} MiB before."])


SCENARIOS = [
    Scenario("download", "One client, 1 GiB over TCP", "One connection, one file, to its END.", one_client),
    Scenario(
        "crowd",
        "64 clients at once, 16 MiB each, over TCP",
        "All 64 connect in the same moment and ask for the same file; the clock stops with the last.",
        crowd,
    ),
    Scenario(
        "straight",
        "1 GiB by the browser's link, straight from the server",
        "The site is asked, answers with a redirect to the server's port, and the file comes from there; "
        "both requests are counted.",
        straight,
    ),
    Scenario(
        "relay",
        "1 GiB, relayed by the site",
        "The site fetches the file from the server and passes it on, with a receipt at the end.",
        relayed,
    ),
]
