"""Configuration of the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from retz.config import ConfigError
from retz.config_keys import KEYS
from retz.config_server import ServerConfig, load_server


def load(tmp_path: Path, **variables: str) -> ServerConfig:
    return load_server(environ={"HOME": str(tmp_path), **variables})


def test_defaults_let_ordinary_work_through(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.data_dir == tmp_path / ".local/state/retz"
    assert (config.host, config.port, config.tls) == ("127.0.0.1", 19090, False)
    assert (config.max_cpus, config.max_mem, config.max_running) == (0, 0, 0)
    assert config.archive_keep == 365 * 86400 and config.sandbox_keep == 7 * 86400
    assert config.local_ports == (31000, 32001)
    assert config.client_config_path == tmp_path / ".config/retz/retz.toml"
    assert config.authentication and config.local_total is None and config.declared_gpus is None


def test_every_key_of_the_server_is_a_field() -> None:
    fields = set(ServerConfig.__dataclass_fields__)
    assert {k.attribute for k in KEYS if k.scope in ("server", "both")} | {"settings", "client_config_path"} == fields


def test_options_win_over_variables_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".config/retz/retz.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "[retz]\nretries = 7\nkill-grace = '2m'\n[retz.local.attributes]\nrack = 'r1'\nlevel = 10\nssd = true\n"
    )
    config = load_server({"retz.retries": "9", "retz.bind": None}, environ={"HOME": str(tmp_path), "RETZ_RETRIES": "8"})
    assert config.retries == 9
    assert config.kill_grace == 120.0
    assert config.local_attributes == {"rack": "r1", "level": 10.0, "ssd": True}
    assert load(tmp_path, RETZ_RETRIES="8").retries == 8
    assert load(tmp_path).retries == 7


def test_a_project_file_means_nothing_to_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "retz.toml").write_text("[retz]\nretries = 99\n")
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path).retries == 5


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RETZ_BIND": "https://127.0.0.1:1"}, "retz.tls.certificate"),
        ({"RETZ_BIND": "http://0.0.0.0:1", "RETZ_AUTHENTICATION": "false"}, "could run commands as you"),
        ({"RETZ_ACCESS_KEY": "k"}, "belong together"),
        ({"RETZ_ACCESS_SECRET": "s", "RETZ_AUTHENTICATION": "false"}, "belong together"),
        ({"RETZ_MAX_MEM": "-1"}, "RETZ_MAX_MEM: retz.max.mem: not a size"),
        ({"RETZ_LOG_LEVEL": "loud"}, "must be one of debug, info, warning, error"),
        ({"RETZ_BIND": "http://127.0.0.1:99999"}, "port"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **variables)


def test_a_key_needs_no_secret_where_nothing_is_signed(tmp_path: Path) -> None:
    config = load(tmp_path, RETZ_ACCESS_KEY="k", RETZ_AUTHENTICATION="false")
    assert (config.access_key, config.access_secret) == ("k", None)


def test_authentication_may_be_off_on_loopback(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert not load(tmp_path, RETZ_BIND=f"http://{host}:0", RETZ_AUTHENTICATION="no").authentication


def test_declared_resources(tmp_path: Path) -> None:
    config = load(tmp_path, RETZ_LOCAL_CPUS="1.5", RETZ_LOCAL_GPUS="2")
    total = config.local_total
    assert total is not None and total.cpus == 1.5 and total.mem > 0 and total.disk > 0
    assert [gpu.uuid for gpu in config.declared_gpus or ()] == ["0", "1"]
    named = load(tmp_path, RETZ_LOCAL_GPUS="GPU-a, GPU-b").declared_gpus
    assert [gpu.uuid for gpu in named or ()] == ["GPU-a", "GPU-b"]
    assert load(tmp_path, RETZ_LOCAL_GPUS="0").declared_gpus == ()


def test_store_sizes_are_bytes_for_the_store(tmp_path: Path) -> None:
    options = load(tmp_path, RETZ_STORE_JOURNAL_SIZE="3m", RETZ_STORE_KEEP="2h").store_options()
    assert (options.rotate_bytes, options.keep_sealed_s) == (3 << 20, 7200.0)
