"""What users install is tested, not what developers have: the wheel, in an empty environment."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = {"cryptography", "msgspec"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree with the pinned builder."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and the hashed runtime pins, and nothing else."""
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    _run(*pip, "--require-hashes", "-r", ROOT / "requirements" / "runtime.txt")
    _run(*pip, "--no-deps", wheel)
    return python


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    """The command's output; if it fails, its errors are the test's."""
    run = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def test_the_builder_is_pinned_once() -> None:
    """An isolated build and ours use the same builder."""
    (pinned,) = PROJECT["build-system"]["requires"]
    assert pinned in (ROOT / "requirements" / "build.in").read_text(encoding="utf-8").split()
    assert f"{pinned} \\" in (ROOT / "requirements" / "build.txt").read_text(encoding="utf-8")


def test_every_pin_has_a_hash_and_names_no_place() -> None:
    """The pins say what to install, and leave from where to whoever installs."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
        assert blocks, path.name
        assert all("==" in block and "--hash=sha256:" in block for block in blocks), path.name
        assert "://" not in text, path.name
        assert not re.search(r"^--?(i|f|extra-|index|find)", text, re.MULTILINE), path.name


def test_the_sets_of_pins_agree() -> None:
    """The small sets are subsets of the large one, so that one .venv serves all."""
    folder = ROOT / "requirements"
    pins = {
        path.stem: set(re.findall(r"^([a-z0-9.-]+==\S+)", path.read_text("utf-8"), re.MULTILINE))
        for path in folder.glob("*.txt")
    }
    for name in ("build", "runtime", "demo"):
        assert pins[name] <= pins["dev"], f"run 'make pins': {name}.txt has what dev.txt has not"


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Types are inside; tests, examples and tools are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "strongroom/py.typed" in names
    assert all(re.match(r"strongroom(-[\d.]+\.dist-info)?/", name) for name in names), names
    strays = [name for name in names if re.search(r"(^|/)(tests?/|test_|conftest)", name)]
    assert not strays
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_wheel_needs_two_packages(wheel: Path) -> None:
    """Without extras, installing brings exactly our two dependencies."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    needed = [item for item in metadata.get_all("Requires-Dist", []) if "extra ==" not in item]
    assert {re.split(r"[^\w-]", item)[0] for item in needed} == RUNTIME
    assert metadata["Version"] == PROJECT["project"]["version"]


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_installed_package_works_alone(python: Path, tmp_path: Path) -> None:
    """Installed with the runtime pins only, it is complete, and importing it warns of nothing."""
    _run(python, "-m", "pip", "check")
    code = "import strongroom\nfor name in strongroom.__all__: getattr(strongroom, name)"
    _run(python, "-I", "-W", "error", "-c", code, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_installed_command_helps(python: Path, tmp_path: Path) -> None:
    """`strongroom --help` answers without any extra."""
    assert "strongroom" in _run(python.with_name("strongroom"), "--help", cwd=tmp_path)
