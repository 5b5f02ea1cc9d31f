"""One environment per peer, built from its pinned requirements under .benchmark-envs/ (not in git).

The product gets one too, with what its users install: a development environment has packages that slow its start.
"""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENTS = ROOT / ".benchmark-envs"
PRODUCT = "product"


def python_of(name):
    """The Python of the environment NAME, which is made or remade when its requirements have changed."""
    # Every file lists all that is needed, so that nothing is resolved.
    if name == PRODUCT:
        installs = [["--require-hashes", "-r", ROOT / "requirements" / "run.txt"], ["--editable", ROOT]]
        files = [ROOT / "requirements" / "run.txt"]
    else:
        files = [HERE / f"requirements-{name}.txt", HERE / f"requirements-{name}-no-deps.txt"]
        files = [file for file in files if file.exists()]
        installs = [["-r", file] for file in files]
    place = ENVIRONMENTS / name
    python = place / "bin" / "python"
    stamp = place / "requirements.sha256"
    wanted = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment {name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    for install in installs:
        subprocess.run([*pip, *install], check=True)
    stamp.write_text(wanted)
    return python


def checkout_of(commit):
    """The files of an earlier COMMIT. They run in the product's environment of today."""
    place = ENVIRONMENTS / "commits" / commit
    if not place.exists():
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(place, filter="data")
    return place
