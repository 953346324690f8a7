"""A configuration that is wrong is refused with its file, its line and its key."""

import math
from pathlib import Path

import pytest

from bridge import config
from bridge.errors import ConfigError
from bridge.plan import Keep
from bridge.units import Bytes, Seconds


def load(tmp_path: Path, text: str) -> config.Loaded:
    file = tmp_path / "podbridge.yaml"
    file.write_text(text)
    return config.load(file)


def test_everything_has_a_default(tmp_path: Path) -> None:
    found = load(tmp_path, "").config
    assert (found.registry.listen.host, found.registry.listen.port) == ("127.0.0.1", 5000)
    assert found.podman.command == ("podman",)
    assert (float(found.resync), float(found.grace)) == (300, 3600)


def test_the_example_of_the_readme_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    example = text.split("```yaml\n", 1)[1].split("```", 1)[0]
    found = load(tmp_path, example).config
    assert found.publish[0].match == "localhost/team-*"
    assert found.publish[-1].skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tree: /x\nregistry:\n  lisen: a\n", ":3: registry.lisen: unknown key; did you mean `listen`?"),
        ("a: 1\ntree: /x\n", ":1: a: unknown key"),
        ("tree: /x\ntree: /y\n", ":2: key `tree` stands twice, first in line 1"),
        ("tree: 3\n", ":1: tree: expected `path`, got 3"),
        ("tree: [\n", ":2: not YAML"),
        ("- a\n", ":1: expected a mapping"),
        ("registry:\n  listen: 127.0.0.1\n", ":2: registry.listen: expected HOST:PORT"),
        ("\nregistry:\n  listen: a:99999\n", ":3: registry.listen: expected HOST:PORT"),
        ("encodings:\n  space: 20\n", ":2: encodings.space: expected a size"),
        ("encodings:\n  except: foo\n", ":2: encodings.except: expected `array`, got `str`"),
        ("encodings:\n  except:\n  - ok\n  - '('\n", ":4: encodings.except[1]: expected a regular expression, got '('"),
        ("encodings:\n  except: [3]\n", ":2: encodings.except[0]: expected a regular expression of 1 to 200"),
        ("encodings:\n  except: ['']\n", ":2: encodings.except[0]: expected a regular expression of 1 to 200"),
        (
            f"encodings:\n  except: [{'x' * 201}]\n",
            ":2: encodings.except[0]: expected a regular expression of 1 to 200",
        ),
        ("encodings:\n  except: ['(a+)+$']\n", ":2: encodings.except[0]: expected at most 2 of *, + and {}"),
        ("encodings:\n  except: ['a*b*c*d']\n", ":2: encodings.except[0]: expected at most 2 of *, + and {}"),
        (
            "encodings:\n  except: ['(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)b']\n",
            ":2: encodings.except[0]: expected",
        ),
        (f"encodings:\n  except: [{', '.join('x' * 40)}]\n", ":1: encodings: except: expected at most 32"),
        ("encodings:\n  excepted: [x]\n", ":2: encodings.excepted: unknown key; did you mean `except`?"),
        ("resync: 5\n", ":1: resync: expected a duration"),
        ("publish:\n- match: a\n  as: '{pth}:1'\n", ":2: publish[0]: as: bad template"),
        ("publish:\n- match: a\n- match: b\n  skip: maybe\n", ":4: publish[1].skip: expected `bool`, got `str`"),
        ("publish:\n- as: x:1\n  skip: true\n", ":2: publish[0]: a rule has either"),
        ("podman:\n  command: podman\n", ":2: podman.command: expected `array`, got `str`"),
        ("podman:\n  command: []\n", ":2: podman.command: expected `array` of length >= 1"),
        ("keep: 3\n", ":1: keep: expected true, false or a duration"),
        ("max_withdraw: 0.5\n", ":1: max_withdraw: expected a percentage"),
        ("publish:\n- keep: ever\n", ":2: publish[0].keep: expected true, false or a duration"),
        ("registry:\n  auth:\n    htpaswd: x\n", ":3: registry.auth.htpaswd: unknown key; did you mean `htpasswd`?"),
        ("registry:\n  auth:\n    users: {a: [x]}\n", ":1: registry: auth.users: nobody has a name without"),
        ("registry:\n  auth:\n    anonymous: x\n", ":3: registry.auth.anonymous: expected `array"),
        ("registry:\n  tls:\n    certificate: x\n", ":2: registry.tls: object missing required field `key`"),
        (
            "registry:\n  auth: {anonymous: [x]}\n  tls: {certificate: a, key: b, client_ca: c}\n",
            ":1: registry: auth.anonymous: with tls.client_ca every client has a name",
        ),
        ("1: 2\n", ":1: a key is a word, not '1'"),
        ("tree: !!python/object:os.system x\n", ":1: not YAML: could not determine a constructor"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert f"{tmp_path / 'podbridge.yaml'}{expected}" in str(caught.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml")


def test_flags_stand_over_the_file_and_both_are_told(tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("tree: /from/file\nresync: 7m\n")
    loaded = config.load(file, {"tree": "/from/flag", "registry.listen": None})
    values = {key: (value, origin) for key, value, origin in loaded.values()}
    assert values["tree"] == ("/from/flag", "flag")
    assert values["resync"] == ("7m", f"{file}:2")
    assert values["registry.listen"] == ("127.0.0.1:5000", "default")


def test_a_wrong_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("registry:\n  listen: 127.0.0.1:5000\n")
    with pytest.raises(ConfigError) as caught:
        config.load(file, {"registry.listen": "nowhere"})
    assert str(caught.value) == "registry.listen: expected HOST:PORT, got 'nowhere'"


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("7d", 604800)])
def test_a_duration_reads_and_prints_the_same(text: str, seconds: int) -> None:
    duration = Seconds.parse(text)
    assert float(duration) == seconds
    assert str(duration) == text


@pytest.mark.parametrize(
    ("text", "size"), [("0MB", 0), ("1500MB", 1_500_000_000), ("20GB", 20 * 10**9), ("1TB", 10**12)]
)
def test_a_size_reads_as_it_prints(text: str, size: int) -> None:
    assert Bytes.parse(text) == Bytes.parse(str(Bytes(size))) == Bytes(size)


@pytest.mark.parametrize(("text", "seconds"), [("true", math.inf), ("false", 0), ("7d", 604800)])
def test_keep_is_for_good_not_at_all_or_for_a_time(tmp_path: Path, text: str, seconds: float) -> None:
    loaded = load(tmp_path, f"keep: {text}\npublish:\n- keep: {text}\nmax_withdraw: 80%\n")
    assert float(loaded.config.keep) == seconds
    assert loaded.config.publish[0].keep == Keep(seconds)
    shown = {key: value for key, value, _ in loaded.values()}
    assert str(shown["keep"]).lower() == text
    assert shown["max_withdraw"] == "80%"


@pytest.mark.parametrize("text", ["^foo/", r"foo/[12]\.[0-9]+", r"\*\+\{\?", "[*+?{|]", "(?i)foo|bar|baz", "[]*+*]+"])
def test_a_regular_expression_reads_and_prints_the_same(tmp_path: Path, text: str) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text(f"encodings:\n  except: ['{text}']\n")
    loaded = config.load(file)
    assert loaded.config.encodings.except_ == (text,)
    assert ("encodings.except", [text], f"{file}:2") in [
        (key, list(v) if key == "encodings.except" else v, o) for key, v, o in loaded.values()
    ]
