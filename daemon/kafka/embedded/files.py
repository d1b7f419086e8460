"""The broker's jar files: resolved once by Maven from the pinned pom into a cache folder."""

import contextlib
import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from daemon.errors import PrerequisiteMissing
from daemon.settings import cache_folder

POM = Path(__file__).with_name("pom.xml")
VERSION = re.findall(r"<kafka.version>(.*?)</kafka.version>", POM.read_text())[0]


def default_cache() -> Path:
    return cache_folder() / f"kafka-{VERSION}"


def resolve_jars(cache: Path) -> Path:
    """The folder with the jar files; downloads them when `cache` has none.

    Several processes may ask at once: one downloads, the others wait. The folder appears whole or not
    at all. Raises PrerequisiteMissing when Maven is missing or the download fails.
    """
    jars = cache / "jars"
    if jars.is_dir():
        return jars
    with _locked(cache):
        if not jars.is_dir():
            _download(jars)
    return jars


def _download(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PrerequisiteMissing(
            "The embedded broker's files come from Maven Central and `mvn` is not on PATH: "
            "install Maven (Debian: `apt-get install maven`)."
        )
    partial = Path(tempfile.mkdtemp(prefix="jars-", dir=jars.parent))
    command = [maven, "--batch-mode", "--no-transfer-progress", "--quiet", "--file", str(POM)]
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(partial)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        reason = re.sub(r"\x1b\[\d*m|\[ERROR\]", "", errors[0]).strip() if errors else "no reason given"
        raise PrerequisiteMissing(
            f"Maven could not fetch Apache Kafka {VERSION} ({reason[:300]}): "
            "check the network or the mirror in ~/.m2/settings.xml, then try again."
        )
    partial.chmod(0o755)
    partial.rename(jars)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
