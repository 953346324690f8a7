"""`systemctl reload`: a new configuration without a restart, and a bad one without harm."""

from concurrent.futures import Future

import bcrypt

from tests.end_to_end.programs import eventually
from tests.systemd.box import SERVICE, Box
from tests.systemd.visitors import Answer, outcome

_FILE = "/etc/podbridge/podbridge.yaml"


def test_new_rules_are_taken_up_and_what_takes_a_restart_is_named(serving: Box) -> None:
    digest, process = serving.build("localhost/app:1"), serving.unit("MainPID")
    eventually(lambda: serving.shows("app", digest))
    serving.write(_FILE, 'tree: /srv/other\npublish: [{match: "*", as: "moved/{path}:{tag}"}]\n')
    serving.run("systemctl", "reload", SERVICE)
    eventually(lambda: serving.shows("moved/app", digest))
    eventually(lambda: serving.get("/v2/app/manifests/1").status == 404)
    eventually(lambda: "this takes a restart of podbridge, and is as before until then key=tree" in serving.journal())
    eventually(lambda: "configuration read again" in serving.journal())
    assert serving.unit("MainPID") == process


def test_passwords_are_asked_for_from_a_reload_on(serving: Box) -> None:
    secret = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    serving.write("/etc/podbridge/htpasswd", f"ann:{secret}\n")
    serving.write(_FILE, "registry: {auth: {htpasswd: /etc/podbridge/htpasswd}}\n")
    assert serving.get("/v2/").status == 200
    serving.run("systemctl", "reload", SERVICE)
    eventually(lambda: serving.get("/v2/").status == 401)


def test_a_certificate_that_cannot_be_used_is_refused_and_all_stays(serving: Box) -> None:
    serving.write(_FILE, "registry: {tls: {certificate: /etc/none.crt, key: /etc/none.key}}\nresync: 1h\n")
    serving.run("systemctl", "reload", SERVICE)
    refusal = "new configuration refused: registry.tls.key: /etc/none.key: No such file or directory"
    eventually(lambda: serving.unit("StatusText") == f"0 published, watching; {refusal}")
    assert serving.get("/v2/").status == 200


def test_a_reload_under_load_loses_no_request(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    asked: list[Future[Answer]] = []

    def is_read_while_more_is_asked() -> bool:
        asked.extend(serving.visitors.begin("/v2/app/manifests/1") for _ in range(50))
        return "configuration read again" in serving.journal()

    serving.write(_FILE, "registry: {workers: 1}\n")
    serving.run("systemctl", "reload", SERVICE)
    eventually(is_read_while_more_is_asked)
    assert {outcome(answer) for answer in asked} == {"200"}


def test_a_bad_configuration_is_refused_and_the_one_before_stays(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    serving.write(_FILE, "resync: soon\npublish: [{match: '*', skip: true}]\n")
    serving.run("systemctl", "reload", SERVICE)
    refusal = f"new configuration refused: {_FILE}:1: resync: expected a duration such as 30s, 5m, 1h or 7d, got 'soon'"
    eventually(lambda: serving.unit("StatusText") == f"1 published, watching; {refusal}")
    eventually(lambda: "new configuration refused, the one before stays" in serving.journal())
    eventually(lambda: serving.unit("ActiveState") == "active")
    serving.run("podbridge", "--config", "/dev/null", "resync")
    assert serving.shows("app", digest)

    serving.write(_FILE, "resync: 1h\n")
    serving.run("systemctl", "reload", SERVICE)
    eventually(lambda: serving.unit("StatusText") == "1 published, watching")
