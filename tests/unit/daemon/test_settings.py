from pathlib import Path

import pytest

from daemon.errors import ConfigurationError
from daemon.settings import load


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("AUTOGLM_") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)


def write(tmp_path, text):
    file = tmp_path / "autoglm.toml"
    file.write_text(text)
    return file


def test_environment_wins_over_credentials_over_file_over_default(tmp_path, monkeypatch):
    file = write(tmp_path, '[kafka]\ngroup_id = "file"\nclient_id = "file"\nreply_topic = "file"\n')
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "autoglm_kafka__client_id").write_text("credential\n")
    (credentials / "autoglm_kafka__group_id").write_text("credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("AUTOGLM_KAFKA__GROUP_ID", "environment")
    kafka = load(file).kafka
    assert (kafka.group_id, kafka.client_id, kafka.reply_topic) == ("environment", "credential", "file")
    assert load(file).engine.slots is None


def test_the_file_may_be_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOGLM_CONFIG", str(write(tmp_path, "[engine]\nslots = 3\n")))
    assert load().engine.slots == 3
    monkeypatch.setenv("AUTOGLM_CONFIG", "")  # as a shell or unit has it that unsets it for one command
    assert load().engine.slots is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[engine]\nslotz = 3\n", r"autoglm\.toml: `engine\.slotz`: unknown key; did you mean `slots`\?"),
        ("[engin]\nslots = 3\n", r"autoglm\.toml: `engin`: unknown key; did you mean `engine`\?"),
        (
            "[engines.a]\nslotz = 3\n",
            r"autoglm\.toml: `engines\.a\.slotz`: unknown key; did you mean `slots`\?",
        ),
        ("[engines.a]\n[engines.b]\n", r"no route that takes every request: .* one of: a, b\."),
        (
            '[engines.a]\n[[routes]]\nengine = "a"\nfallback = "c"\n',
            r"autoglm\.toml: routes\.0: there is no engine 'c'; use one of: a\.",
        ),
        ('[[routes]]\nengine = "a"\n', r"`routes` go to `\[engines\.NAME\]`; declare these"),
        ("[engine]\nslots = 2\n[engines.a]\n", r"`engine` is the only engine.*; move it"),
        ("[engines.a]\nmemory = 1.5\n", r"`engines\.a\.memory`: input should be less than or equal to 1"),
        (
            "[engine]\nslots = 0\n",
            r"autoglm\.toml: `engine\.slots`: input should be greater than or equal to 1",
        ),
        ("[engine\n", r"autoglm\.toml: not valid TOML"),
        (
            '[kafka]\nrequest_topics = ["a", "b"]\nreply_topic = "b"\n',
            r"`kafka`: .*request_topics and reply_topic both name 'b'; give reply_topic a topic of its own",
        ),
        ('[kafka]\naudit_topic = "autoglm.control"\n', r"control_topic and audit_topic both name"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, text, said):
    with pytest.raises(ConfigurationError, match=said):
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AUTOGLM_KAFKA__GROUPID", "x", r"AUTOGLM_KAFKA__GROUPID: unknown key; did you mean `group_id`"),
        (
            "AUTOGLM_KAFK__GROUP_ID",
            "x",
            r"AUTOGLM_KAFK__GROUP_ID: unknown setting; did you mean AUTOGLM_KAFKA",
        ),
        ("AUTOGLM_TOOLS__MODULES", "tools.py", r"AUTOGLM_TOOLS__MODULES: not valid JSON: .*; write lists as"),
        (
            "AUTOGLM_ENGINE__SLOTS",
            "many",
            r"^environment AUTOGLM_ENGINE__SLOTS: input should be a valid integer",
        ),
        (
            "autoglm_engine__slots",
            "many",
            r"^environment autoglm_engine__slots: input should be a valid integer",
        ),
        (
            "AUTOGLM_ENGINE",
            '{"slotz": 3}',
            r"^environment AUTOGLM_ENGINE: `slotz`: unknown key; did you mean",
        ),
        (
            "AUTOGLM_ENGINES",
            '{"a": {"slots": 0}}',
            r"^environment AUTOGLM_ENGINES: `a\.slots`: input should be greater",
        ),
        ("AUTOGLM_ROUTES", '[{"engine": 1}]', r"^environment AUTOGLM_ROUTES: `0\.engine`: input should be"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said):
        load()


def test_what_is_wrong_in_a_credential_is_named_with_its_file(tmp_path, monkeypatch):
    (tmp_path / "autoglm_engine__slots").write_text("many")
    (tmp_path / "autoglm_kafka__sasl_pasword").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, "[engine]\ncapacity = 1\n"))
    assert sorted(line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()) == [
        "autoglm.toml: `engine.capacity`: input should be greater than or equal to 16.",
        "autoglm_engine__slots: input should be a valid integer, unable to parse string as an integer.",
        "autoglm_kafka__sasl_pasword: unknown key; did you mean `sasl_password`?",
    ]


def test_a_table_of_the_environment_is_not_blamed_for_what_the_file_says_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOGLM_ENGINE", '{"capacity": 512}')
    with pytest.raises(ConfigurationError, match=r"^.*autoglm\.toml: `engine\.slots`: input should be"):
        load(write(tmp_path, "[engine]\nslots = 0\n"))


def test_secrets_of_tools_are_no_settings(tmp_path, monkeypatch):
    for name in ("memory", "log__token", "autoglm_shop_password"):
        (tmp_path / name).write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    load(write(tmp_path, ""))


@pytest.mark.parametrize("value", ["kafka", "kafka:", "kafka:0", "kafka:65536", "a:1,", "a:1,b", "http://a:1",
                                   "::1:9092", "[::1]", ":9092", ""])  # fmt: skip
def test_servers_are_hosts_with_ports(monkeypatch, value):
    monkeypatch.setenv("AUTOGLM_KAFKA__BOOTSTRAP_SERVERS", value)
    with pytest.raises(ConfigurationError, match=r"BOOTSTRAP_SERVERS: .* is not `host:port`; write"):
        load()


@pytest.mark.parametrize(
    "value", ["kafka_1:9092", "10.0.0.1:1, b.example:65535", "[::1]:9092,[fe80::1%eth0]:1"]
)
def test_servers_may_be_names_and_addresses(monkeypatch, value):
    monkeypatch.setenv("AUTOGLM_KAFKA__BOOTSTRAP_SERVERS", value)
    assert load().kafka.bootstrap_servers == value


def test_a_credential_that_is_not_json_is_named_without_its_value(tmp_path, monkeypatch):
    (tmp_path / "autoglm_tools__modules").write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"/autoglm_tools__modules: not valid JSON") as caught:
        load()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["autoglm.toml", "autoglm_kafka__sasl_password"])
def test_a_file_that_is_not_utf_8_is_named(tmp_path, monkeypatch, name):
    file = write(tmp_path, "")
    (tmp_path / name).write_bytes(b"\xff\xfe[kafka]\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigurationError, match=rf"/{name}: not UTF-8: .*; save it as UTF-8"):
        load(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    file = write(tmp_path, "")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match=r"autoglm\.toml: cannot be read: Permission denied; let"):
        load(file)


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, "[engine]\nslotz = 3\nslots = 0\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="no such file"):
        load(tmp_path / "none.toml")
