import pytest

from daemon.tools.kinds.credentials import Credentials


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """As systemd makes it from `LoadCredential=autoglm:FOLDER` and `LoadCredential=own:FILE`."""
    (tmp_path / "autoglm_shop_password").write_text("of the folder\n")
    (tmp_path / "autoglm_own").write_text("of the folder, too\n")
    (tmp_path / "own").write_text("its own\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_secret_of_the_units_folder_is_found_by_the_files_name(folder):
    credentials = Credentials()
    assert credentials.reveal("<{credential:shop_password}>") == "<of the folder>"
    assert credentials.hide("it was: of the folder") == "it was: ***"


def test_a_secret_handed_over_by_itself_comes_first(folder):
    assert Credentials().reveal("{credential:own}") == "its own"


def test_what_is_missing_is_named_with_the_remedy(folder, monkeypatch):
    remedy = "add `LoadCredential=none:FILE` to the unit, or the file none to the folder"
    with pytest.raises(ValueError, match=f"credential 'none' cannot be read: .*; {remedy}"):
        Credentials().reveal("{credential:none}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ValueError, match=f"no .CREDENTIALS_DIRECTORY; {remedy}"):
        Credentials().reveal("{credential:none}")
