"""What the last run worked out, kept for the next one."""

from engines.keepsake import Keepsake


def test_what_was_kept_is_read(tmp_path):
    kept = Keepsake(tmp_path / "later" / "kernels", "kernels")
    assert kept.read() == b""
    kept.keep(memoryview(b"compiled"))
    assert kept.read() == b"compiled" and len(list(kept._file.parent.iterdir())) == 1


def test_what_cannot_be_read_or_kept_is_logged_alone(tmp_path, caplog):
    (tmp_path / "kernels").mkdir()
    kept = Keepsake(tmp_path / "kernels", "kernels")
    assert kept.read() == b""
    kept.keep(b"compiled")
    assert "kernels of the last time are not used" in caplog.text
    assert "kernels are not kept for the next time" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["kernels"]
