"""`systemctl reload`: a new configuration without a restart, and a bad one without harm."""

from tests.end_to_end.programs import eventually
from tests.systemd.box import SERVICE, Box

_FILE = "/etc/podbridge/podbridge.yaml"


def test_new_rules_are_taken_up_and_what_takes_a_restart_is_named(serving: Box) -> None:
    digest, process = serving.build("localhost/app:1"), serving.unit("MainPID")
    eventually(lambda: serving.shows("app", digest))
    serving.write(_FILE, 'tree: /srv/other\npublish: [{match: "*", as: "moved/{path}:{tag}"}]\n')
    serving.run("systemctl", "reload", SERVICE)
    eventually(lambda: serving.shows("moved/app", digest))
    eventually(lambda: serving.get("/v2/app/manifests/1").status == 404)
    assert "this takes a restart of podbridge, and is as before until then key=tree" in serving.journal()
    assert "configuration read again" in serving.journal()
    assert serving.unit("MainPID") == process


def test_a_bad_configuration_is_refused_and_the_one_before_stays(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    serving.write(_FILE, "resync: soon\npublish: [{match: '*', skip: true}]\n")
    serving.run("systemctl", "reload", SERVICE)
    refusal = f"new configuration refused: {_FILE}:1: resync: expected a duration such as 30s, 5m, 1h or 7d, got 'soon'"
    eventually(lambda: serving.unit("StatusText") == f"1 published, watching; {refusal}")
    assert "ERROR new configuration refused, the one before stays" in serving.journal()
    assert serving.unit("ActiveState") == "active"
    serving.run("podbridge", "--config", "/dev/null", "resync")
    assert serving.shows("app", digest)

    serving.write(_FILE, "resync: 1h\n")
    serving.run("systemctl", "reload", SERVICE)
    eventually(lambda: serving.unit("StatusText") == "1 published, watching")
