"""Configuration: which source wins, and that what nobody knows is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisors.node.config import BadConfig, NodeConfig, configure, read_file, which_node

FILE = Path("/etc/banyan.toml")


def test_nothing_given_is_the_default():
    """Without any source a node has its defaults."""
    assert configure({}, {}) == NodeConfig(
        name="node",
        data=None,
        application=None,
        allow_eval=False,
        admin_level="act",
        drain_timeout=30.0,
        listen=None,
        log_level="info",
        check_messages=False,
        settings={},
    )


def test_a_flag_beats_the_environment_beats_the_file():
    """The first source that says something wins; None and an empty variable say nothing."""
    text = '[node]\nname = "file"\ndata = "file"\ndrain_timeout = 3\nlog_level = "error"\nallow_eval = true\n'
    environ = {"BANYAN_NAME": "env", "BANYAN_DRAIN_TIMEOUT": "2", "BANYAN_LOG_LEVEL": "", "HOME": "x"}
    found = configure({"name": "flag", "data": None, "config": "x", "allow_eval": None}, environ, (FILE, text))
    assert found == NodeConfig(name="flag", data="/etc/file", drain_timeout=2.0, log_level="error", allow_eval=True)


def test_settings_are_text_from_all_sources():
    """--set beats BANYAN_SET_ beats [application]; numbers and bools become text; listen is one, too."""
    text = '[application]\na = 1\nb = true\nc = "x"\nd = 1.5\n[node]\nlisten = "here:1"\n'
    environ = {"BANYAN_SET_A": "2", "BANYAN_SET_B": "env"}
    found = configure({"settings": ["a=3", "e=x=y"]}, environ, (FILE, text))
    assert found.settings == {
        "a": "3",
        "b": "env",
        "c": "x",
        "d": "1.5",
        "e": "x=y",
        "listen": "here:1",
    }
    assert configure({"listen": "there:2", "settings": ["listen=own"]}, {}).settings == {"listen": "own"}


@pytest.mark.parametrize(
    ("flags", "environ", "text", "what"),
    [
        ({}, {"BANYAN_NAM": "x"}, "", "the variable BANYAN_NAM means nothing here"),
        ({}, {"BANYAN_SETTINGS": "x"}, "", "the variable BANYAN_SETTINGS means nothing here"),
        ({}, {}, "[nod]\n", "/etc/banyan.toml: 'nod' means nothing here"),
        ({}, {}, "node = 3\n", "/etc/banyan.toml: 'node' is no table"),
        ({}, {}, "[node]\nnmae = 'x'\n", "/etc/banyan.toml: there is no node.nmae"),
        ({}, {}, "[node]\nsettings = 'x'\n", "/etc/banyan.toml: there is no node.settings"),
        ({}, {}, "[application]\na = [1]\n", "/etc/banyan.toml: application.a cannot be a setting"),
        ({}, {}, "[node\n", "cannot read /etc/banyan.toml"),
        ({}, {}, "[node]\nname = 3\n", "/etc/banyan.toml: name cannot be 3"),
        ({}, {}, "[node]\ndrain_timeout = -1\n", "/etc/banyan.toml: drain_timeout cannot be -1.0"),
        ({}, {"BANYAN_DRAIN_TIMEOUT": "inf"}, "", "the environment: drain_timeout cannot be inf"),
        ({}, {"BANYAN_DRAIN_TIMEOUT": "nan"}, "", "the environment: drain_timeout cannot be nan"),
        ({}, {"BANYAN_ALLOW_EVAL": "perhaps"}, "", "the environment: allow_eval cannot be 'perhaps'"),
        ({"log_level": "loud"}, {}, "", "the command line: log_level cannot be 'loud'"),
        ({"name": ".."}, {}, "", "the command line: the name cannot be '..'"),
        ({"name": "a\nb"}, {}, "", "the command line: the name cannot be 'a\\nb'"),
        ({"settings": ["=x"]}, {}, "", "a setting cannot be read"),
    ],
)
def test_what_cannot_work_is_refused_with_its_source(flags, environ, text, what):
    """A key that nobody knows or a value that cannot be names where it came from; exit code 2."""
    with pytest.raises(BadConfig) as caught:
        configure(flags, environ, (FILE, text))
    assert (caught.value.what, caught.value.code) == (what, 2)


@pytest.mark.parametrize(
    ("text", "why", "next"),
    [
        ("data = 'd'\n", "it is a key of [node]", "put it below [node]"),
        ("peers = { b = 'c:1' }\n", "it is a key of [cluster]", "put it below [cluster]"),
        ("[name]\n", "it is a key of [node]", "put it below [node]"),
        ("[node]\naddress = 'a:1'\n", "it is a key of [cluster]", "put it below [cluster]"),
        ("[cluster]\ndata = 'd'\n", "it is a key of [node]", "put it below [node]"),
        ("[node]\ngc = 'fast'\n", "it is one of freeze, python", "give it another value"),
        ("[node]\nlog_level = 'loud'\n", "it is one of debug, info, warning, error", "give it another value"),
        ("[nod]\n", "there are: node, cluster, application", "did you mean 'node'?"),
        ("tables = 3\n", "there are: node, cluster, application", "leave it out"),
    ],
)
def test_what_was_meant_is_told(text, why, next):
    """A key in the wrong place is told where it belongs, a word that is none of a few which they are."""
    with pytest.raises(BadConfig) as caught:
        configure({}, {}, (FILE, text))
    assert (caught.value.why, caught.value.next) == (why, next)


def test_variables_of_tests_are_passed_over():
    """BANYAN_TEST_ belongs to tests, BANYAN_CONFIG to whoever reads the file."""
    assert configure({}, {"BANYAN_TEST_X": "1", "BANYAN_CONFIG": "f"}) == NodeConfig()


def test_a_bool_may_be_written_as_a_word_or_a_digit():
    """In the environment true, 1, false and 0 are bools."""
    written = {word: configure({}, {"BANYAN_ALLOW_EVAL": word}).allow_eval for word in ("true", "1", "false", "0")}
    assert written == {"true": True, "1": True, "false": False, "0": False}


@pytest.mark.parametrize(
    ("flags", "environ", "text", "found"),
    [
        ({}, {}, "", (None, None)),
        ({"name": "a", "data": None}, {"BANYAN_NAME": "b"}, "", ("a", None)),
        ({"name": None, "data": "d"}, {"BANYAN_NAME": "b"}, "", (None, "d")),
        ({}, {"BANYAN_DATA": "e"}, "[node]\nname = 'c'\n", (None, "e")),
        ({}, {"BANYAN_DATA": "e", "BANYAN_NAME": "b"}, "", ("b", None)),
        ({}, {}, "[node]\nname = 'c'\ndata = 'd'\n", ("c", None)),
        ({}, {}, "[node]\ndata = 'd'\n", (None, "/etc/d")),
        ({}, {}, "[node]\ndrain_timeout = 3\n", (None, None)),
    ],
)
def test_the_first_source_that_names_a_node_decides(flags, environ, text, found):
    """A command's node is the one that the nearest source names; in one source the name beats the data."""
    assert which_node(flags, environ, (FILE, text)) == found


def test_the_file_is_read_where_there_is_one(tmp_path, monkeypatch):
    """banyan.toml of the folder is read if it is there; a named file must be there, and be text."""
    monkeypatch.chdir(tmp_path)
    assert read_file(None) is None
    (tmp_path / "banyan.toml").write_text("[node]\n")
    assert read_file(None) == (Path("banyan.toml"), "[node]\n")
    for named in ("none.toml", "."):
        with pytest.raises(BadConfig):
            read_file(named)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig):
        read_file("binary")
