"""TLS that cannot be used is told before the node starts, not by a receiver that dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.health import certificates
from appliance.settings import Alerts, Receiver, Settings
from tests.kit.certificates import Authority


@pytest.mark.parametrize(
    ("certificate", "key", "port", "words"),
    [
        ("one.pem", "one.key", 2762, "is good"),
        ("one.pem", "two.key", 2762, "cannot be used"),
        ("one.pem", "nowhere.key", 2762, "nowhere.key"),
        ("one.pem", "", 2762, "receiver.tls_port needs receiver.tls_key_file"),
        ("one.pem", "one.key", 11113, "each needs its own"),
    ],
    ids=["good", "another key", "no such key", "no key", "a port twice"],
)
def test_config_check_looks_at_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
    certificate: str, key: str, port: int, words: str,
) -> None:  # fmt: skip
    authority = Authority(tmp_path)
    for name in ("one", "two"):
        authority.sign(name)
    lines = [f"tls_port: {port}", f"tls_certificate_file: {certificate}", f"tls_key_file: {key!r}"]
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "brookbox.yaml"
    file.write_text("receiver:\n" + "".join(f"  {line}\n" for line in lines))
    code = main(["--home", str(tmp_path), "config", "check"])
    said = capsys.readouterr()
    assert words in said.out + said.err
    assert code == (0 if words == "is good" else 1)


def test_the_receiver_s_own_certificate_is_watched(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.sign("mine").certificate
    rules = Receiver(tls_port=2762, tls_certificate_file=str(mine))
    settings = Settings(receiver=rules, alerts=Alerts(certificates=("proxy.pem",)), home=tmp_path)
    assert certificates.watched(settings) == ["proxy.pem", str(mine)]
    _, found = certificates.look(tmp_path, certificates.watched(settings))
    assert found.expires_at is not None
    assert certificates.watched(Settings(home=tmp_path)) == []
