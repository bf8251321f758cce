"""Configuration of clients: precedence, origins, errors that name the place, files nobody else can read."""

from __future__ import annotations

import os
import stat
import threading
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.config import (
    ClientConfig,
    ConfigError,
    find_project_file,
    host_token,
    line_of,
    load_client,
    user_file,
    write_client_config,
)
from retz.config_keys import BY_NAME, JOB_VARIABLES, KEYS, template, toml_value

ROOT = Path(__file__).parents[2]


class Place:
    """A home directory, a project in it, and an environment."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.project = self.home / "project"
        self.environ = {"HOME": str(self.home)}
        (self.project / "deep" / "down").mkdir(parents=True)

    def user(self, text: str) -> Path:
        path = user_file(self.environ)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    def load(self, options: dict[str, object] | None = None, file: Path | None = None) -> ClientConfig:
        return load_client(options, environ=self.environ, cwd=self.project, file=file)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def uri(text: str) -> str:
    return f'[retz.server]\nuri = "http://{text}:1"\n'


def test_each_source_wins_over_the_next_and_says_so(place: Place) -> None:
    def seen(options: dict[str, object] | None = None) -> tuple[str, str]:
        config = place.load(options)
        return config.server_uri, str(config.settings.values["retz.server.uri"].origin)

    assert seen() == ("http://127.0.0.1:19090", "default")
    user = place.user(uri("user"))
    assert seen() == ("http://user:1", f"user {user}:2")
    project = place.project / "retz.toml"
    project.write_text("# ours\n\n" + uri("project"))
    assert seen() == ("http://project:1", f"project {project}:4")
    place.environ["RETZ_SERVER_URI"] = "http://environment:1"
    assert seen() == ("http://environment:1", "environment RETZ_SERVER_URI")
    assert seen({"retz.server.uri": "http://option:1"}) == ("http://option:1", "option")


def test_an_explicit_file_replaces_both(place: Place, tmp_path: Path) -> None:
    place.user(uri("user"))
    (place.project / "retz.toml").write_text(uri("project"))
    file = tmp_path / "other.toml"
    file.write_text("")
    assert place.load(file=file).server_uri == "http://127.0.0.1:19090"
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        place.load(file=tmp_path / "gone.toml")


def test_the_project_file_is_found_up_to_git_or_home(place: Place, tmp_path: Path) -> None:
    deep = place.project / "deep" / "down"
    assert find_project_file(place.environ, deep) is None
    at_home = place.home / ".retz.toml"
    at_home.write_text("")
    assert find_project_file(place.environ, deep) == at_home
    (place.project / ".git").mkdir()
    assert find_project_file(place.environ, deep) is None
    at_project = place.project / "retz.toml"
    at_project.write_text("")
    assert find_project_file(place.environ, deep) == at_project


def test_outside_home_and_git_only_the_directory_itself_counts(place: Place, tmp_path: Path) -> None:
    (tmp_path / "retz.toml").write_text("")
    below = tmp_path / "below"
    below.mkdir()
    assert find_project_file(place.environ, below) is None
    assert find_project_file(place.environ, tmp_path) == tmp_path / "retz.toml"


def test_a_project_cannot_redirect_credentials(place: Place) -> None:
    place.user('[retz.access]\nkey = "me"\nsecret = "mine"\n')
    (place.project / "retz.toml").write_text(uri("evil"))
    config = place.load()
    assert (config.access_key, config.access_secret) == (None, None)
    assert any("must not send your credentials elsewhere" in note for note in config.notes)
    place.environ |= {"RETZ_ACCESS_KEY": "k", "RETZ_ACCESS_SECRET": "s"}
    assert place.load().access_secret == "s"


@pytest.mark.parametrize("line", ["[retz.tls]\ninsecure = true", '[retz.tls]\nca = "ca.pem"'])
def test_nor_by_weakening_tls(place: Place, line: str) -> None:
    place.user('[retz.access]\nkey = "me"\nsecret = "mine"\n')
    (place.project / "retz.toml").write_text(line)
    assert place.load().access_secret is None


def test_a_project_with_credentials_of_its_own_is_fine(place: Place) -> None:
    place.user('[retz.access]\nkey = "me"\nsecret = "mine"\n')
    (place.project / "retz.toml").write_text(uri("team") + '[retz.access]\nkey = "team"\nsecret = "ours"\n')
    assert place.load().access_secret == "ours"


def test_a_redirection_that_an_option_overrides_does_no_harm(place: Place) -> None:
    place.user('[retz.access]\nkey = "me"\nsecret = "mine"\n')
    (place.project / "retz.toml").write_text(uri("evil"))
    assert place.load({"retz.server.uri": "http://good:1"}).access_secret == "mine"


def test_a_project_file_of_somebody_else_is_ignored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.project / "retz.toml"
    path.write_text(uri("project"))
    owner = path.stat().st_uid
    if owner == 0:
        os.chown(path, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    config = place.load()
    assert config.server_uri == "http://127.0.0.1:19090"
    assert any("belongs to another user" in note for note in config.notes)


def test_a_readable_secret_is_remarked(place: Place) -> None:
    path = place.user('[retz.access]\nkey = "me"\nsecret = "mine"\n')
    assert place.load().notes == ()
    path.chmod(0o644)
    assert any("chmod 600" in note for note in place.load().notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[retz.server]\nuri = 5\n', r":2: retz\.server\.uri: must be a text"),
        ('\n\n[retz.server]\nuri = "ftp://x"\n', r":4: retz\.server\.uri: must be http"),
        ('[retz.server]\nurl = "http://x"\n', r":2: retz\.server\.url: no such key; did you mean retz\.server\.uri"),
        ('[retz.max]\nmem = "lots"\n', r":2: retz\.max\.mem: not a size"),
        ("[retz.max]\ncpus = nan\n", r":2: retz\.max\.cpus: must be a number"),
        ("[retz.max]\nrunning = 1.5\n", r":2: retz\.max\.running: must be a whole number"),
        ("[retz]\nauthentication = 'maybe'\n", r":2: retz\.authentication: must be true or false"),
        ("[retz]\nkill-grace = 'soon'\n", r":2: retz\.kill-grace: not a duration"),
        ("[retz.local]\nports = '9-1'\n", r":2: retz\.local\.ports: must be a range within"),
        ("[retz.local]\ngpus = [1]\n", r":2: retz\.local\.gpus: must be"),
        ("[retz]\nengine = 'cloud'\n", r":2: retz\.engine: must be one of local, mesos, null"),
        ("[retz.local.attributes]\nrack = []\n", r":1: retz\.local\.attributes: rack: must be a text"),
        ("[retz.server\n", r"not valid TOML: .*line 1"),
        ("[server]\nuri = 'http://x'\n", r":2: server\.uri: no such key"),
        ("retz = 3\n", r":1: retz: no such key"),
    ],
)  # fmt: skip
def test_damage_is_named_with_file_line_and_key(place: Place, text: str, expected: str) -> None:
    path = place.user(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        place.load()
    assert str(caught.value).startswith(str(path))


def test_a_damaged_secret_is_not_echoed(place: Place) -> None:
    place.user("[retz.access]\nkey = 'me'\nsecret = 31337\n")
    with pytest.raises(ConfigError, match=r":3: retz\.access\.secret") as caught:
        place.load()
    assert "31337" not in str(caught.value)


def test_a_file_that_is_no_text(place: Place) -> None:
    place.user("").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        place.load()


def test_a_bad_variable_is_named(place: Place) -> None:
    place.environ["RETZ_TLS_INSECURE"] = "perhaps"
    with pytest.raises(ConfigError, match=r"^RETZ_TLS_INSECURE: retz\.tls\.insecure: must be true or false"):
        place.load()


def test_an_empty_variable_is_not_set(place: Place) -> None:
    place.environ["RETZ_SERVER_URI"] = ""
    assert place.load().server_uri == "http://127.0.0.1:19090"


def test_what_a_job_sees_is_never_configuration() -> None:
    names = {key.environment for key in KEYS}
    assert not names & JOB_VARIABLES
    assert not any(name.startswith("PORT") for name in names)
    assert len(names) == len(KEYS), "two keys share a variable"


def test_secrets_do_not_reach_a_repr(place: Place) -> None:
    place.user('[retz.access]\nkey = "me"\nsecret = "hush-hush"\n')
    config = place.load()
    assert config.access_secret == "hush-hush"
    assert "hush-hush" not in repr(config)
    assert config.settings.values["retz.access.secret"].shown == "********"


def test_paths_are_relative_to_their_file(place: Place) -> None:
    path = place.user('[retz.tls]\nca = "certificates/ca.pem"\n')
    assert place.load().tls_ca == path.parent / "certificates" / "ca.pem"
    place.user('[retz.tls]\nca = "~/ca.pem"\n')
    assert place.load().tls_ca == place.home / "ca.pem"


def test_the_template_lists_every_key_with_its_default() -> None:
    written = (ROOT / "conf" / "retz.toml").read_text()
    assert written == template(), "run: python -m retz.config_keys > conf/retz.toml"
    tomllib.loads(written)
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and "  # " in line else line for line in written.splitlines()
    )
    document = tomllib.loads(uncommented)
    for key in KEYS:
        table = document
        *path, last = key.name.split(".")
        for name in path:
            table = table[name]
        if key.default is not None:
            assert table[last] == key.default, key.name
        assert last in table and key.why


def test_a_relative_xdg_directory_is_ignored(place: Place) -> None:
    place.environ["XDG_CONFIG_HOME"] = "here"
    assert user_file(place.environ) == place.home / ".config/retz/retz.toml"
    place.environ["XDG_CONFIG_HOME"] = "/there"
    assert user_file(place.environ) == Path("/there/retz/retz.toml")


def test_lines_are_found_however_they_are_written() -> None:
    text = '# a\n[retz]\nserver.uri = "x"\n[retz.max] # c\n"cpus" = 1\n'
    assert line_of(text, "retz.server.uri") == 3
    assert line_of(text, "retz.max.cpus") == 5
    assert line_of(text, "retz.max.mem") == 1


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=50))
def test_texts_survive_toml(text: str) -> None:
    assert tomllib.loads(f"x = {toml_value(text)}")["x"] == text


def identity(path: Path) -> tuple[str | None, str | None, str]:
    config = load_client(environ={}, cwd=path.parent, file=path)
    return config.access_key, config.access_secret, config.server_uri


def test_the_identity_is_private_from_its_first_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "retz.toml"
    modes = []
    real = os.open

    def spy(name: str, flags: int, mode: int = 0o777) -> int:
        descriptor = real(name, flags, mode)
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", spy)
    old = os.umask(0)
    try:
        assert write_client_config(path, "http://127.0.0.1:19090", "k", 'se"cr\\et')
    finally:
        os.umask(old)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert identity(path) == ("k", 'se"cr\\et', "http://127.0.0.1:19090")
    assert list(path.parent.iterdir()) == [path]


def test_another_identity_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "retz.toml"
    assert write_client_config(path, "http://127.0.0.1:19090", "k", "s")
    assert not write_client_config(path, "http://127.0.0.1:19090", "k", "s")
    for other in (
        ("http://127.0.0.1:19090", "k", "t"),
        ("http://127.0.0.1:19090", "l", "s"),
        ("http://far:1", "k", "s"),
    ):
        with pytest.raises(ConfigError, match="another identity") as caught:
            write_client_config(path, *other)
        assert "move it away" in str(caught.value)
    assert identity(path) == ("k", "s", "http://127.0.0.1:19090")
    assert write_client_config(path, "http://127.0.0.1:19090", "l", "t", replace=True)
    assert identity(path)[:2] == ("l", "t")


def test_settings_made_before_the_first_start_are_left_alone_and_not_called_an_identity(tmp_path: Path) -> None:
    path = tmp_path / "retz.toml"
    path.write_text('[retz.local]\nuser = "jobs"\n')
    with pytest.raises(ConfigError, match="holds settings, but no key: it is left as it is"):
        write_client_config(path, "http://127.0.0.1:1", "k", "s")


def test_a_new_port_on_this_host_changes_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "retz.toml"
    path.write_text(
        '# mine\n[retz.server]\nuri = "http://127.0.0.1:1" \ntimeout = "5s"\n[retz.access]\nkey = "k"\nsecret = "s"\n'
    )
    assert write_client_config(path, "http://127.0.0.1:2", "k", "s")
    text = path.read_text()
    assert text.startswith('# mine\n[retz.server]\nuri = "http://127.0.0.1:2"\ntimeout = "5s"\n')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_servers_that_start_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    path = tmp_path / "retz.toml"
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def start(name: str) -> None:
        try:
            barrier.wait()
            write_client_config(path, "http://127.0.0.1:19090", name, name)
            outcomes.append(name)
        except ConfigError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [name for name in outcomes if name != "refused"]
    assert (len(outcomes), len(winners)) == (2, 1)
    assert identity(path)[0] == winners[0]


def test_the_host_token_is_stable_and_says_nothing() -> None:
    assert host_token() == host_token()
    assert len(host_token()) == 32
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        assert boot.read_text().strip()[:8] not in host_token()


def test_every_key_has_a_place_in_a_configuration() -> None:
    fields = set(ClientConfig.__dataclass_fields__)
    assert {k.attribute for k in KEYS if k.scope in ("client", "both")} <= fields
    assert BY_NAME["retz.max.list-jobs"].environment == "RETZ_MAX_LIST_JOBS"
