"""Engine jars from Maven, assembled once into a cache folder that outlives the test run."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from engines.errors import EngineAbsent

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunemill" / "engines"
DOWNLOAD_DEADLINE_S = 900
DESCRIPTOR = "plugin-descriptor.properties"


def kafka_jars() -> Path:
    """A folder of jars that together are a Kafka broker."""
    return _cached("kafka", [HERE / "kafka.xml"], lambda folder: _download(HERE / "kafka.xml", folder))


def elasticsearch_jars(java_home: Path) -> Path:
    """A folder with `lib` (jars and our compiled classes) and `modules` (what the node loads beside them).

    Args:
        java_home: a JDK of version 21 or later, which compiles the two classes of ours.
    """
    sources = [
        HERE / "elasticsearch.xml",
        Path(__file__),
        *sorted(p for p in (HERE / "java").rglob("*") if p.is_file()),
    ]
    return _cached("elasticsearch", sources, lambda folder: _assemble_elasticsearch(folder, java_home))


def _cached(name: str, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """The folder built from these sources, built now if it is not there; safe if several processes ask at once."""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                build(Path(scratch) / name)
                (Path(scratch) / name).rename(folder)
    return folder


def _download(pom: Path, into: Path) -> None:
    if not shutil.which("mvn"):
        raise EngineAbsent("no `mvn` on the PATH to fetch the engines' packages with")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={into}"]
    _run(["mvn", "--quiet", "--batch-mode", "--file", str(pom), *goal], f"Maven could not fetch {pom.name}")


def _assemble_elasticsearch(folder: Path, java_home: Path) -> None:
    lib, modules = folder / "lib", folder / "modules"
    _download(HERE / "elasticsearch.xml", lib)
    _move_transport(lib, modules / "transport-netty4")
    sources = [str(p) for p in sorted((HERE / "java").rglob("*.java"))]
    classes = folder / "classes"
    javac = [str(java_home / "bin" / "javac"), "--release", "21", "-cp", f"{lib}/*", "-d", str(classes)]
    _run([*javac, *sources], "javac could not compile the test engine")
    _pack(classes, "SearchNode*.class", lib / "search-node.jar")
    _add_missing_parts(classes, modules / "missing-parts")


def _move_transport(lib: Path, module: Path) -> None:
    """The HTTP transport is a module: its jars must not lie on the server's own class path."""
    module.mkdir(parents=True)
    for jar in [*lib.glob("netty-*.jar"), *lib.glob("transport-netty4-*.jar")]:
        jar.rename(module / jar.name)
    packed = f"META-INF/es-plugins/transport-netty4/{DESCRIPTOR}"
    with zipfile.ZipFile(next(module.glob("transport-netty4-*.jar"))) as jar:
        lines = jar.read(packed).decode().splitlines()
    # Loaded from the class path, as the server is; the named Java module would not find it.
    kept = [line for line in lines if not line.startswith("modulename=")]
    (module / DESCRIPTOR).write_text("\n".join(kept))


def _add_missing_parts(classes: Path, module: Path) -> None:
    module.mkdir()
    shutil.copy(HERE / "java" / "missing-parts.properties", module / DESCRIPTOR)
    _pack(classes, "MissingParts*.class", module / "missing-parts.jar")


def _pack(classes: Path, pattern: str, jar: Path) -> None:
    """The server refuses to start if one class lies in two jars, so each takes its own."""
    with zipfile.ZipFile(jar, "w") as packed:
        for compiled in classes.rglob(pattern):
            packed.write(compiled, compiled.relative_to(classes))


def _run(command: list[str], complaint: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=DOWNLOAD_DEADLINE_S)
    if done.returncode:
        raise EngineAbsent(f"{complaint}:\n{(done.stdout + done.stderr)[-3000:]}")
