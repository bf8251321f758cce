"""The estimator's configuration: the shipped file, Hadoop's XML, and whatever else a file may hold."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from estimator.config import SOLVERS, EstimatorConfig, load_class
from estimator.config_files import KEYS, PREFIX, load
from estimator.errors import ConfigurationError
from estimator.solver.base import Solver, SolverSettings

SHIPPED = Path(__file__).parents[2] / "conf" / "resourceestimator.toml"

XML = """<?xml version="1.0"?>
<?xml-stylesheet type="text/xsl" href="configuration.xsl"?>
<!-- as Hadoop's service reads it -->
<configuration>
    <property>
        <name>resourceestimator.solver.lp.alpha</name>
        <value>0.3</value>
        <description>any text &lt;here&gt;</description>
    </property>
    <property><name>resourceestimator.solver.lp.minJobRuns</name><value> 3 </value><final>true</final></property>
    <property>
        <name>resourceestimator.translator.line-parser</name>
        <value>org.apache.hadoop.resourceestimator.translator.impl.RmSingleLineParser</value>
    </property>
    <property>
        <name>resourceestimator.translator.provider</name>
        <value>org.apache.hadoop.resourceestimator.translator.impl.BaseLogParser</value>
    </property>
    <property>
        <name>resourceestimator.skylinestore.provider</name>
        <value>org.apache.hadoop.resourceestimator.skylinestore.impl.InMemoryStore</value>
    </property>
    <property>
        <name>resourceestimator.solver.provider</name>
        <value>org.apache.hadoop.resourceestimator.solver.impl.LpSolver</value>
    </property>
    <property><name>resourceestimator.timeInterval</name><value>10</value></property>
    <property><name>resourceestimator.service-port</name><value>9999</value></property>
    <property><name>resourceestimator.log-directories</name><value>/var/log/yarn, logs</value></property>
    <property><name>resourceestimator.future</name><value>1</value></property>
    <property><name>fs.defaultFS</name><value>file:///</value></property>
</configuration>
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf"


def _refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as refusal:
        load(file)
    return str(refusal.value).removeprefix(str(file))


def test_the_shipped_file_changes_nothing() -> None:
    loaded = load(SHIPPED)
    assert loaded.config == EstimatorConfig() and loaded.warnings == () and not loaded.given


def test_the_shipped_file_shows_every_key_with_its_default_and_a_reason(file: Path) -> None:
    text = SHIPPED.read_text()
    shown = re.findall(r"(?m)^# ([\w.-]+) = (.+?)  # (.+)$", text)
    assert all(len(reason) > 10 for _, _, reason in shown)
    file.write_text(re.sub(r"(?m)^# (?=[\w.-]+ = .+  # )", "", text))
    loaded = load(file)
    assert loaded.warnings == ()
    assert replace(loaded.config, directory=EstimatorConfig().directory) == EstimatorConfig()
    assert loaded.config.directory == file.parent / EstimatorConfig().directory
    assert loaded.given == {key.field for key in KEYS.values()} and len(shown) == len(KEYS)


def test_every_setting_has_a_key() -> None:
    settings = {each.name for each in fields(SolverSettings)}
    own = {each.name for each in fields(EstimatorConfig)} - {"settings"}
    assert {key.field for key in KEYS.values()} == settings | own


def test_hadoops_xml_is_read_as_it_is(file: Path) -> None:
    file.write_text(XML)
    loaded = load(file)
    assert loaded.config == EstimatorConfig(
        settings=SolverSettings(alpha=0.3, min_runs=3, interval=10),
        solver="fast",
        line_parser="rm",
        log_parser="base",
        store="memory",
        port=9999,
        log_directories=(Path("/var/log/yarn"), file.parent / "logs"),
    )
    assert loaded.warnings == (
        f"{file}:30: resourceestimator.future: no such key, ignored",
        f"{file}:31: fs.defaultFS: no such key, ignored",
    )


def test_toml_says_the_same_in_its_own_way(file: Path) -> None:
    file.write_text(
        "[resourceestimator]\ntimeInterval = 10\nlog-directories = ['logs']\nworkers-idle = 5\n"
        "store-directory = '~/history'\n[resourceestimator.solver]\nlp.alpha = 1\nprovider = 'own.module.Solver'\n"
        "kind = 'used'\n"
        "[resourceestimator.skylinestore]\n"
        "provider = 'org.apache.hadoop.resourceestimator.skylinestore.impl.InMemoryStore'\nsize = 3\n"
    )
    loaded = load(file)
    assert loaded.config == EstimatorConfig(
        settings=SolverSettings(alpha=1.0, interval=10, kind="used"),
        solver="own.module.Solver",
        store="memory",
        directory=Path.home() / "history",
        log_directories=(file.parent / "logs",),
        workers_idle_s=5.0,
    )
    assert loaded.warnings == (f"{file}:12: resourceestimator.skylinestore.size: no such key, ignored",)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("solver.lp.alpha = 1.5", "alpha must be from 0 to 1, not 1.5"),
        ("solver.lp.alpha = nan", "alpha must be from 0 to 1, not nan"),
        ("solver.lp.alpha = true", "must be a number, not True"),
        ("solver.lp.alpha = 'much'", "must be a number, not 'much'"),
        (f"solver.lp.beta = {'9' * 400}", "must be a number, not " + "9" * 57 + "..."),
        ("solver.lp.minJobRuns = 0", "minJobRuns must be at least 1, not 0"),
        ("solver.lp.minJobRuns = 1.5", "must be a whole number, not 1.5"),
        ("timeInterval = -5", "timeInterval must be from 1 to 86400 seconds, not -5"),
        ("service-port = 70000", "the port must be from 0 to 65535, not 70000"),
        ("solver.kind = 'wished'", "the kind of skyline is 'allocated' or 'used', not 'wished'"),
        ("solver.confidence = 'yes'", "must be true or false, not 'yes'"),
        ("bind = ''", "must be a text, not ''"),
        ("workers-idle = inf", "workers-idle must be from 0 to 86400 seconds, not inf"),
        ("upload-limit = 0", "the upload limit must be at least 1 MB, not 0"),
        ("log-directories = 3", 'must be a list of directories like ["/var/log/yarn"], not 3'),
        ("log-directories = [3]", "must be a text, not 3"),
        ('store-directory = "a\\u0000b"', "must be a text, not 'a\\x00b'"),
    ],
)
def test_a_wrong_value_is_refused_with_file_line_and_key(file: Path, line: str, text: str) -> None:
    key = line.split(" = ")[0]
    assert _refusal(file, f"# a comment\n[resourceestimator]\n{line}\n") == f":3: {PREFIX}{key}: {text}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[resourceestimator]\ntimeInterval == 5\n", ":2: not valid TOML"),
        ("[resourceestimator\n", ":1: not valid TOML"),
        ("a = 1\na = 2\n", ":2: not valid TOML"),
        (b"a = 1\nb = '\xff'\n", ":2: not UTF-8 text"),
        ("a = " + "[" * 100_000, ":1: not valid TOML"),
        ("<configuration>\n<property>\n</configuration>\n", ":3: not well-formed XML"),
        ("<configuration>\n", ":2: not well-formed XML"),
        ("<html>\n<body/>\n</html>", ":1: a configuration begins with <configuration>, not <html>"),
        ("<configuration>\n<property>\n<value>1</value>\n</property></configuration>", ":4: a <property> without <n"),
        ("<?xml version='1.0' encoding='klingon'?>\n<configuration/>", ":1: not well-formed XML"),
        (b"<\x00", ":1: not well-formed XML"),
        (b" " * (1 << 20) + b"<", ": too large for a configuration"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_its_line(file: Path, content: str | bytes, text: str) -> None:
    assert _refusal(file, content).startswith(text)


def test_an_xml_value_is_refused_with_its_line(file: Path) -> None:
    assert _refusal(file, XML.replace("0.3", "lots")) == (f":7: {PREFIX}solver.lp.alpha: must be a number, not 'lots'")


def test_entities_are_not_expanded(file: Path) -> None:
    bomb = '<!DOCTYPE c [<!ENTITY a "ha">\n<!ENTITY b "&a;&a;&a;">]>\n<configuration>&b;</configuration>'
    assert _refusal(file, bomb) == ":1: entity declarations are not read; write the values out"
    outside = '<!DOCTYPE c [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n<configuration>&a;</configuration>'
    assert _refusal(file, outside) == ":1: entity declarations are not read; write the values out"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load(tmp_path / "nothing.toml")


def test_classes_are_loaded_by_short_name_hadoops_name_or_dotted_path() -> None:
    names = ["max", "estimator.solver.baselines.MaxSolver"]
    assert len({load_class(name, Solver) for name in names}) == 1  # type: ignore[type-abstract]
    hadoop = "org.apache.hadoop.resourceestimator.solver.impl.LpSolver"
    assert load_class(hadoop, Solver) is load_class("fast", Solver)  # type: ignore[type-abstract]
    assert {load_class(name, Solver).name for name in SOLVERS} == set(SOLVERS)  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "'nothing' names no class"),
        ("no.such.Solver", "cannot load no.such.Solver: No module named 'no'"),
        ("os.path.Nothing", "cannot load os.path.Nothing"),
        ("os.path.join", "os.path.join is not a Solver"),
        ("estimator.skyline.Skyline", "estimator.skyline.Skyline is not a Solver"),
        ("..Solver", "cannot load ..Solver"),
    ],
)
def test_what_is_no_such_class_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(text)):
        load_class(name, Solver)  # type: ignore[type-abstract]
