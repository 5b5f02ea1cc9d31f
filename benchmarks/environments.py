"""One environment per peer, built from its pinned requirement file under .benchmark-envs/ (not in git)."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENTS = ROOT / ".benchmark-envs"


def python_of(name):
    """The Python of the environment NAME, which is made or remade when its requirement files have changed."""
    files = [HERE / f"requirements-{name}.txt"]
    if (extra := HERE / f"requirements-{name}-no-deps.txt").exists():
        files.append(extra)
    place = ENVIRONMENTS / name
    python = place / "bin" / "python"
    stamp = place / "requirements.sha256"
    wanted = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment {name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    # Every file lists all that is needed, so nothing is resolved: the second one even must not be.
    for file in files:
        install = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "-r",
            file,
        ]
        subprocess.run(install, check=True)
    stamp.write_text(wanted)
    return python
