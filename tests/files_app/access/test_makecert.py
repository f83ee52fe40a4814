"""The certificate that this machine makes for itself, and what is said of one that cannot be used."""

import datetime
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.core.management import CommandError, call_command

from files_app.access import makecert, tls
from files_app.access.makecert import make, names_of, own_names, renewed
from files_app.access.network import require_private


@pytest.fixture
def paths(tmp_path: Path, settings: Any) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    settings.TLS_CERT, settings.TLS_KEY = str(cert), str(key)
    return cert, key


class TestMaking:
    def test_it_is_good_for_all_names_and_the_key_is_its_owners_alone(self, paths: tuple[Path, Path]) -> None:
        made = make(*paths, ["localhost", "127.0.0.1", "::1", "my-host.local"])
        assert names_of(made) == ["localhost", "127.0.0.1", "::1", "my-host.local"]
        assert stat.S_IMODE(paths[1].stat().st_mode) == 0o600
        assert tls.server_context() is not None
        tls.require_usable()
        assert tls.warning() == ""

    def test_made_anew_it_has_the_same_key_so_a_pin_stays(self, paths: tuple[Path, Path]) -> None:
        first, second = make(*paths, ["localhost"]), make(*paths, ["localhost", "other"])
        assert first.serial_number != second.serial_number
        assert tls.fingerprint(first) == tls.fingerprint(second)

    @pytest.mark.parametrize(("days", "told"), [(397, ""), (13, "about to end")])
    def test_before_its_end_it_is_made_anew(
        self, paths: tuple[Path, Path], days: int, told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(makecert, "own_names", lambda: ["localhost"])
        make(*paths, ["localhost"], days)
        assert told in renewed(*paths)
        assert bool(told) is bool(renewed(*paths)) or not renewed(*paths)
        made = x509.load_pem_x509_certificate(paths[0].read_bytes())
        assert made.not_valid_after_utc > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300)

    def test_with_another_address_it_is_made_anew_and_keeps_the_names_it_has(
        self, paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(makecert, "own_names", lambda: ["localhost", "192.168.1.9"])
        make(*paths, ["localhost", "extra"])
        assert "it lacked 192.168.1.9" in renewed(*paths)
        made = x509.load_pem_x509_certificate(paths[0].read_bytes())
        assert names_of(made) == ["localhost", "extra", "192.168.1.9"]
        assert renewed(*paths) == ""

    def test_one_of_somebody_else_is_left_alone(
        self, paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(makecert, "MADE_BY", "another")
        make(*paths, ["localhost"], 1)
        monkeypatch.undo()
        before = paths[0].read_bytes()
        assert renewed(*paths) == ""
        assert paths[0].read_bytes() == before

    def test_it_names_this_machine(self) -> None:
        names = own_names()
        assert {"localhost", "127.0.0.1", "::1"} <= set(names)
        assert any(name.endswith(".local") for name in names)
        assert not any(name.startswith(("fe80:", "169.254.")) for name in names)

    def test_the_command_says_what_to_do_with_it(
        self, paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("makecert", name=["files.example.org"])
        said = capsys.readouterr().out
        for told in ("files.example.org", f"TLS_CERT={paths[0]}", f"TLS_KEY={paths[1]}"):
            assert told in said
        assert said.split()[-1] == tls.fingerprint(tls.certificate())

    def test_where_nothing_can_be_written_it_says_so(self, settings: Any) -> None:
        settings.TLS_CERT = settings.TLS_KEY = "/nowhere/at/all.pem"
        with pytest.raises(CommandError, match="cannot be written"):
            call_command("makecert")


class TestWhatCannotBeUsed:
    def refusal(self) -> str:
        with pytest.raises(CommandError) as refused:
            require_private("127.0.0.1", "WEB_HOST")
        return str(refused.value)

    def test_each_fault_is_a_sentence(self, paths: tuple[Path, Path], tmp_path: Path, settings: Any) -> None:
        cert, key = paths
        assert "cannot be read: No such file" in self.refusal()
        cert.write_text("nonsense")
        key.write_text("nonsense")
        assert "are no certificate and its key" in self.refusal()
        make(cert, key, ["localhost"])
        make(tmp_path / "other.pem", tmp_path / "other-key.pem", ["localhost"])
        settings.TLS_KEY = str(tmp_path / "other-key.pem")
        assert "are no certificate and its key" in self.refusal()
        settings.TLS_CERT = ""
        assert "TLS_KEY is set and TLS_CERT is not" in self.refusal()

    def test_one_that_is_over_is_named(self, paths: tuple[Path, Path]) -> None:
        make(*paths, ["localhost"], 1)
        over = make(*paths, ["localhost"], 0)
        assert over.not_valid_after_utc <= datetime.datetime.now(datetime.UTC)
        assert "is over since" in self.refusal()

    def test_a_key_that_others_may_read_is_warned_of(self, paths: tuple[Path, Path]) -> None:
        make(*paths, ["localhost"])
        paths[1].chmod(0o644)
        assert "chmod 600" in tls.warning()

    @pytest.mark.usefixtures("database")
    def test_where_tls_is_required_the_network_waits_for_it(self, settings: Any) -> None:
        settings.REQUIRE_TLS = True
        with pytest.raises(CommandError, match="without TLS"):
            require_private("0.0.0.0", "WEB_HOST")
        require_private("127.0.0.1", "WEB_HOST")
