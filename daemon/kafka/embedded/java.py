"""Finds a Java runtime that can run Kafka 4."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from daemon.errors import PrerequisiteMissing

OLDEST = 17
_REMEDY = f"install a JDK {OLDEST} or newer (Debian: `apt-get install openjdk-17-jdk-headless`)"


@dataclass(frozen=True)
class Java:
    """A Java executable and its full version, such as `17.0.15`."""

    path: Path
    version: str


@cache
def find_java() -> Java:
    """The Java of JAVA_HOME, else of PATH.

    Raises PrerequisiteMissing when there is none or when it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        where = f"JAVA_HOME ({home})" if home else "PATH"
        raise PrerequisiteMissing(f"The embedded broker needs Java, and {where} has none: {_REMEDY}.")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "((\d+)[^"]*)"', told)
    if match is None:
        raise PrerequisiteMissing(f"{found} does not say which Java it is: {_REMEDY}.")
    if int(match[2]) < OLDEST:
        raise PrerequisiteMissing(
            f"The embedded broker needs Java {OLDEST}, {found} is {match[1]}: {_REMEDY}."
        )
    return Java(Path(found), match[1])
