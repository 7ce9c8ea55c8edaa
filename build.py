"""Compiles corkbind's C into one shared library, and runs the project's tasks.

    python3 build.py [build]    compile corkbind/_ffi/libcorkbind.so
    python3 build.py run        build, then start docs/examples/hello.py
    python3 build.py test       build, make .venv, run the C tests and pytest
    python3 build.py lint       style, types and C warnings
    python3 build.py bench      compare with other servers (see tests/bench/)
    python3 build.py fuzz       fuzz the C under sanitizers (see docs/explanation/testing.md)
    python3 build.py clean      remove everything that the above made

It needs Python 3.10, a C compiler (CC in the environment chooses one), zlib and
OpenSSL, and nothing else; `build --without-tls`, or CORKBIND_WITHOUT_TLS=1 in the
environment, does without the last. It is also the build hook of the wheel: see CorkbindBuildHook.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "build"
LIBRARY = ROOT / "corkbind" / "_ffi" / "libcorkbind.so"
SANITIZED_LIBRARY = OUT / "asan" / "libcorkbind.so"
INCLUDE = ROOT / "corkbind" / "include"
PKG_CONFIG = ROOT / "corkbind" / "pkgconfig" / "corkbind.pc"
SOCKET_HEADERS = ("libusockets.h", "libusockets_ext.h")
SOURCES = ("vendor/uSockets/src", "corkbind/core")
TEST_SOURCES = {"vendor/uSockets/tests": SOURCES[:1], "tests/c": SOURCES}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LIBRARIES = ["-lpthread", "-lz", "-lssl", "-lcrypto"]
JOBS = os.cpu_count() or 1

INCLUDES = [f"-I{ROOT / path}" for path in ("vendor/uSockets/src", "corkbind/include", "corkbind/core")]
LANGUAGE = ["-std=c11", "-D_GNU_SOURCE", *INCLUDES]
TEST_WARNINGS = ["-Wall", "-Wextra", "-Wshadow"]
WARNINGS = [*TEST_WARNINGS, "-Wconversion", "-Wstrict-prototypes", "-Wmissing-prototypes"]
SHARED = ["-fPIC", "-fvisibility=hidden", "-ffunction-sections"]
RELEASE = ["-O3", *SHARED]
# Each is used where the compiler takes it. Link-time optimisation inlines the socket layer into the core.
SONAME = f"-Wl,-soname,{LIBRARY.name}"
OPTIONAL = ["-fno-plt", "-fno-semantic-interposition", "-flto=auto", "-Wl,--gc-sections", "-Wl,-z,relro,-z,now"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1", "-DCK_POISON"]
SANITIZER_OPTIONS = {"UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_stack_use_after_return=1"}
# C tests whose subject scans bytes run again where char is unsigned, and without vector instructions.
SCANNING = ("scan", "utf8", "ws_frame", "http_parser", "exhaustive", "router")
PORTABILITY = ("-funsigned-char", "-DCK_PORTABLE_SCAN")
# The tests of the sockets run again on the kqueue back end, over a kqueue of our own where there is none, and with the
# calls that other systems lack made of those that they have.
SOCKET_TESTS = "vendor/uSockets/tests"
KQUEUE = f"{SOCKET_TESTS}/fake_kqueue"
ON_KQUEUE = ("-DLIBUS_USE_KQUEUE", "-DLIBUS_PORTABLE_CALLS", f"-I{ROOT / SOCKET_TESTS}", f"-I{ROOT / KQUEUE}")
TEST_SECONDS = 300
WITHOUT_TLS = "-DLIBUS_NO_SSL"

COMPILER_PACKAGES = {
    "apt-get": "sudo apt-get install gcc libc6-dev",
    "dnf": "sudo dnf install gcc glibc-devel",
    "apk": "sudo apk add gcc musl-dev linux-headers",
    "pacman": "sudo pacman -S gcc",
    "brew": "brew install gcc",
}
ZLIB_PACKAGES = {
    "apt-get": "sudo apt-get install zlib1g-dev",
    "dnf": "sudo dnf install zlib-devel",
    "apk": "sudo apk add zlib-dev",
    "pacman": "sudo pacman -S zlib",
    "brew": "brew install zlib",
}
OPENSSL_PACKAGES = {
    "apt-get": "sudo apt-get install libssl-dev",
    "dnf": "sudo dnf install openssl-devel",
    "apk": "sudo apk add openssl-dev",
    "pacman": "sudo pacman -S openssl",
    "brew": "brew install openssl@3",
}
VENV_PACKAGES = {"apt-get": "sudo apt-get install python3-venv", "apk": "sudo apk add python3 py3-pip"}


class BuildError(Exception):
    """Something that the user can put right; its text is the whole story."""


def leave_tls_out() -> None:
    """Builds without OpenSSL from here on."""
    if WITHOUT_TLS not in LANGUAGE:
        LANGUAGE.append(WITHOUT_TLS)
        LIBRARIES[:] = [library for library in LIBRARIES if library not in ("-lssl", "-lcrypto")]


def say(text: str) -> None:
    print(text, flush=True)


def package_hint(packages: dict[str, str]) -> str:
    """Returns the command that installs what is missing on this system."""
    return next((command for tool, command in packages.items() if shutil.which(tool)), next(iter(packages.values())))


def run(command: Sequence[str | Path], **options: object) -> None:
    """Runs a command in the project's folder; raises BuildError when it fails."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT, **options).returncode  # type: ignore[call-overload]
    if status:
        raise BuildError(f"{Path(command[0]).name} {' '.join(map(str, command[1:3]))} failed (exit status {status})")


@contextlib.contextmanager
def only_one(name: str) -> Iterator[None]:
    """Holds a lock of the build folder, so that two builds of one tree do not mix."""
    import fcntl

    OUT.mkdir(exist_ok=True)
    with open(OUT / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- The compiler ----


def slug(text: str) -> str:
    return re.sub(r"\W", "_", text)


@lru_cache
def compiler() -> str:
    """Returns the C compiler: CC, or the first one installed."""
    chosen = os.environ.get("CC")
    for name in [chosen] if chosen else ["cc", "gcc", "clang"]:
        if name and shutil.which(name.split()[0]):
            return name
    missing = f"no C compiler ({chosen} from CC)" if chosen else "no C compiler"
    raise BuildError(f"{missing}; install one: {package_hint(COMPILER_PACKAGES)}")


@lru_cache
def compiler_version(cc: str) -> str:
    shown = subprocess.run([*cc.split(), "--version"], capture_output=True, text=True)
    return shown.stdout.splitlines()[0] if shown.stdout else cc


def compilers_for_tests() -> list[str]:
    """Returns the compilers that the C tests run with: the first of CC or gcc, and clang."""
    found = [os.environ.get("CC") or ("gcc" if shutil.which("gcc") else compiler())]
    if shutil.which("clang") and "clang" not in compiler_version(found[0]):
        found.append("clang")
    return found


PROBE = "#include <stdio.h>\nint probe(void); int probe(void) { return puts(__FILE__); }\n"
ZLIB_PROBE = "#include <zlib.h>\nint probe(void); int probe(void) { return zlibVersion()[0] == ZLIB_VERSION[0]; }\n"
OPENSSL_PROBE = """#include <openssl/ssl.h>
#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error too old
#endif
int probe(void); int probe(void) { return TLS_method() == 0; }
"""


@lru_cache
def takes(cc: str, *flags: str, source: str = PROBE) -> bool:
    """Tells whether the compiler and its linker accept the flags without a warning."""
    key = hashlib.sha256("\0".join([cc, compiler_version(cc), source, *flags]).encode()).hexdigest()[:24]
    answer = OUT / "probe" / key
    if not answer.exists():
        answer.parent.mkdir(parents=True, exist_ok=True)
        command = [*cc.split(), *flags, "-Werror", "-shared", "-fPIC", "-x", "c", "-", "-o", f"{answer}.so"]
        works = subprocess.run(command, input=source, capture_output=True, text=True).returncode == 0
        Path(f"{answer}.so").unlink(missing_ok=True)
        answer.write_text("yes" if works else "no")
    return answer.read_text() == "yes"


def require_headers(cc: str) -> None:
    """Raises BuildError where the headers of C, zlib or OpenSSL are missing; looks again the next time."""
    no_openssl = f"{cc} finds no OpenSSL (openssl/ssl.h, 1.1.1 or later); build --without-tls, or install its headers"
    for source, libraries, missing, packages in (
        (PROBE, [], f"{cc} cannot compile a C program; install its headers", COMPILER_PACKAGES),
        (ZLIB_PROBE, ["-lz"], f"{cc} finds no zlib, which compresses WebSockets; install its headers", ZLIB_PACKAGES),
        (OPENSSL_PROBE, ["-lssl", "-lcrypto"], no_openssl, OPENSSL_PACKAGES),
    ):
        if source == OPENSSL_PROBE and WITHOUT_TLS in LANGUAGE:
            continue
        if not takes(cc, *libraries, source=source):
            shutil.rmtree(OUT / "probe")
            raise BuildError(f"{missing}: {package_hint(packages)}")


def usable(cc: str, flags: Iterable[str]) -> list[str]:
    """Returns those of the optional flags that the compiler takes."""
    require_headers(cc)
    return [flag for flag in flags if takes(cc, flag)]


# ---- Objects ----


class Flavour(NamedTuple):
    """One way to compile: its folder in build/, the compiler, and the flags."""

    name: str
    cc: str
    flags: tuple[str, ...]

    def digest(self) -> str:
        return hashlib.sha256("\0".join([compiler_version(self.cc), *self.flags]).encode()).hexdigest()

    def object_of(self, source: Path) -> Path:
        relative = source.relative_to(ROOT)
        return OUT / "objects" / self.name / relative.parent / f"{relative.stem}.o"


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "gone"


def is_fresh(flavour: Flavour, target: Path) -> bool:
    """Tells whether the object was made with these flags from files that have not changed since."""
    manifest = target.with_suffix(".json")
    if not (manifest.exists() and target.exists()):
        return False
    made = json.loads(manifest.read_text())
    return made["flavour"] == flavour.digest() and all(digest_of(ROOT / path) == was for path, was in made["inputs"].items())


def inputs_of(depfile: Path) -> list[Path]:
    """Returns the project's files named in what the compiler's -MMD wrote."""
    words = depfile.read_text().replace("\\\n", " ").split()[1:]
    return [path for path in (Path(word).resolve() for word in words) if path.is_relative_to(ROOT)]


def compile_object(flavour: Flavour, source: Path) -> str:
    """Compiles a source unless it is fresh. Returns the compiler's complaint, or nothing."""
    target = flavour.object_of(source)
    if is_fresh(flavour, target):
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    started = time.time()
    depfile = target.with_suffix(".d")
    command = [*flavour.cc.split(), *flavour.flags, "-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        target.unlink(missing_ok=True)
        return done.stderr or f"{source}: the compiler failed (exit status {done.returncode})"
    if done.stderr:
        say(done.stderr.rstrip())
    inputs = inputs_of(depfile)
    if all(path.stat().st_mtime < started for path in inputs):  # else a file changed while it was read
        digests = {str(path.relative_to(ROOT)): digest_of(path) for path in inputs}
        target.with_suffix(".json").write_text(json.dumps({"flavour": flavour.digest(), "inputs": digests}))
    return ""


def compile_all(work: Iterable[tuple[Flavour, Path]]) -> None:
    """Compiles on all cores; raises BuildError with every complaint."""
    with ThreadPoolExecutor(JOBS) as pool:
        complaints = [text for text in pool.map(lambda item: compile_object(*item), list(dict.fromkeys(work))) if text]
    if complaints:
        raise BuildError("\n".join(complaints))


def c_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).glob("*.c"))]


def link(flavour: Flavour, objects: Sequence[Path], target: Path, flags: Sequence[str] = ()) -> None:
    """Links unless the target is newer than all of its objects and made by the same command."""
    command = [*flavour.cc.split(), *flavour.flags, *flags, *map(str, objects), *LIBRARIES]
    stamp = OUT / "links" / hashlib.sha256("\0".join([str(target), *command]).encode()).hexdigest()[:24]
    recorded = stamp.read_text() if stamp.exists() else ""
    state = hashlib.sha256("".join(map(digest_of, objects)).encode()).hexdigest()
    if target.exists() and recorded == state + digest_of(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    fresh = stamp.with_suffix(".new")
    done = subprocess.run([*command, "-o", str(fresh)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise BuildError(f"linking {target.relative_to(ROOT)} failed:\n{done.stderr}")
    os.replace(fresh, target)  # a running server keeps the library that it has loaded
    stamp.write_text(state + digest_of(target))


# ---- The library ----


def release_flavour(strict: bool) -> Flavour:
    """The flavour that users get; `strict` turns warnings into errors, for compilers that we know."""
    cc = compiler()
    flags = [*LANGUAGE, *RELEASE, *usable(cc, OPTIONAL), *(usable(cc, WARNINGS) if strict else []), *["-Werror"] * strict]
    name = ("release" if strict else "wheel") + "-plain" * (WITHOUT_TLS in LANGUAGE)
    return Flavour(name, cc, tuple(flags))


def sanitized_flavour(cc: str, *extra: str) -> Flavour:
    plain = ["plain"] if WITHOUT_TLS in LANGUAGE else []
    name = "-".join(["asan", slug(cc), *plain, *(slug(flag).strip("_") for flag in extra)])
    return Flavour(name, cc, (*LANGUAGE, *SANITIZE, *SHARED, *extra))


def compile_flags_only(flavour: Flavour) -> Flavour:
    return Flavour(flavour.name, flavour.cc, tuple(flag for flag in flavour.flags if not flag.startswith("-Wl,")))


def build_library(strict: bool = True, sanitize: bool = False) -> Path:
    """Compiles and links the shared library; returns its path."""
    flavour = sanitized_flavour(compiler()) if sanitize else release_flavour(strict)
    target = SANITIZED_LIBRARY if sanitize else LIBRARY
    sources = c_files(*SOURCES)
    if not sources:
        raise BuildError(f"no C sources in {' or '.join(SOURCES)}")
    with only_one("compile"):
        lay_out_for_embedders()
        compile_all((compile_flags_only(flavour), source) for source in sources)
        # By this name the loader finds the library that Python has loaded already, whatever its path.
        named = ["-shared", *usable(flavour.cc, [SONAME])]
        link(flavour, [flavour.object_of(source) for source in sources], target, named)
    return target


def lay_out_for_embedders() -> list[Path]:
    """Puts beside the library what a C compiler needs to build on it; returns the files."""
    texts = {INCLUDE / name: (ROOT / SOURCES[0] / name).read_text() for name in SOCKET_HEADERS}
    texts[PKG_CONFIG] = pkg_config_file()
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return list(texts)


def pkg_config_file() -> str:
    """Returns what pkg-config reads: paths from where the file lies, so that it may be moved with its package."""
    version = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    return f"""prefix=${{pcfiledir}}/..
includedir=${{prefix}}/include
libdir=${{prefix}}/_ffi

Name: corkbind
Description: HTTP and WebSocket server whose writes leave corked
Version: {version}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -l:{LIBRARY.name} -Wl,-rpath,${{libdir}}
"""


# ---- The C tests ----


class CTest(NamedTuple):
    """A test program: one test_*.c with the sources that it tests."""

    source: Path
    flavour: Flavour
    sources: list[Path]

    @property
    def binary(self) -> Path:
        return OUT / "ctests" / self.flavour.name / self.source.relative_to(ROOT).with_suffix("")

    def files(self) -> list[Path]:
        """The test, what it tests, and the helpers beside it (every .c that is no test)."""
        helpers = [path for path in sorted(self.source.parent.glob("*.c")) if not path.name.startswith("test_")]
        return [self.source, *helpers, *self.sources]

    def objects(self) -> list[tuple[Flavour, Path]]:
        folder = self.source.parent
        tests = Flavour(self.flavour.name, self.flavour.cc, (*self.flavour.flags, *TEST_WARNINGS, "-Werror", f"-I{folder}"))
        return [(tests if path.parent == folder else self.flavour, path) for path in self.files()]

    def link(self) -> None:
        link(self.flavour, [flavour.object_of(path) for flavour, path in self.objects()], self.binary)

    def run(self) -> tuple[bool, str]:
        """Runs the program. Returns whether it passed, and what to print."""
        name = f"{self.source.relative_to(ROOT)} [{self.flavour.name.removeprefix('asan-')}]"
        environment = {**SANITIZER_OPTIONS, **os.environ}
        try:
            done = subprocess.run([self.binary], capture_output=True, cwd=ROOT, env=environment, timeout=TEST_SECONDS)
        except subprocess.TimeoutExpired as late:
            return False, f"{name}: no end after {TEST_SECONDS} s\n{(late.stdout or b'').decode(errors='replace')}"
        output = (done.stdout + done.stderr).decode(errors="replace")
        result = re.findall(r"^(\d+) passed, (\d+) failed", output, re.MULTILINE)
        if done.returncode or not result or int(result[-1][1]):
            return False, f"{name}: FAILED (exit status {done.returncode})\n{shortened(output)}"
        return True, f"{name}: {result[-1][0]} passed, 0 failed"


def shortened(output: str, lines: int = 60) -> str:
    """Returns the first lines and the last: a failure, and the sanitizers' report."""
    every = output.splitlines()
    left_out = len(every) - 2 * lines
    return output if left_out <= 0 else "\n".join([*every[:lines], f"... {left_out} lines ...", *every[-lines:]])


def c_tests() -> list[CTest]:
    """Returns every C test with every compiler, and the scanning ones on other kinds of machine."""
    found = []
    for cc in compilers_for_tests():
        require_headers(cc)
        if not takes(cc, *SANITIZE):
            require_in_ci(f"{cc} has no sanitizers (Debian: libclang-rt-dev of its version)")
            continue
        for folder, sources in TEST_SOURCES.items():
            for source in sorted((ROOT / folder).glob("test_*.c")):
                variants = [(flag,) for flag in PORTABILITY if any(word in source.stem for word in SCANNING)]
                found += [CTest(source, sanitized_flavour(cc, *extra), c_files(*sources)) for extra in [(), *variants]]
        found += kqueue_tests(cc)
    return found


def kqueue_tests(cc: str) -> list[CTest]:
    """Returns the tests of the sockets over the kqueue back end, and those of that back end itself."""
    plain = sanitized_flavour(cc)
    flavour = plain._replace(name=f"{plain.name}-kqueue", flags=(*plain.flags, *ON_KQUEUE))
    over = c_files(SOURCES[0])
    tests = [path for path in c_files(SOCKET_TESTS) if path.stem.startswith("test_")]
    found = [CTest(source, flavour, [*over, ROOT / KQUEUE / "fake_kqueue.c"]) for source in tests]
    return [*found, CTest(ROOT / KQUEUE / "test_kqueue.c", flavour, over)]


def require_in_ci(missing: str) -> None:
    """Says what is left out; where CORKBIND_CI is set nothing may be left out."""
    if os.environ.get("CORKBIND_CI"):
        raise BuildError(missing)
    say(f"left out: {missing}")


def run_c_tests() -> None:
    tests = c_tests()
    with only_one("compile"):
        compile_all(item for test in tests for item in test.objects())
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(CTest.link, tests))
    with ThreadPoolExecutor(JOBS) as pool:
        failed = 0
        for passed, text in pool.map(CTest.run, tests):
            say(text)
            failed += not passed
    say(f"C tests: {len(tests) - failed} programs passed, {failed} failed")
    if failed:
        raise BuildError("a C test failed")


# ---- Python environments ----


def make_venv(python: str, folder: Path, what: Sequence[str], depends_on: Path) -> Path:
    """Makes a virtual environment, once for each state of a file. Returns its python."""
    inside = folder / "bin" / "python"
    stamp = folder / "installed"
    state = "\n".join([digest_of(depends_on), python, *what])
    with only_one(folder.name):
        if stamp.exists() and stamp.read_text() == state and inside.exists():
            return inside
        say(f"making {folder.name}")
        if not stamp.exists() or python not in stamp.read_text().split("\n"):
            create_venv(python, folder)
        run([inside, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *what])
        stamp.write_text(state)
    return inside


def create_venv(python: str, folder: Path) -> None:
    if subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode:
        raise BuildError(f"{python} has no venv module; install it: {package_hint(VENV_PACKAGES)}")
    run([python, "-m", "venv", "--clear", folder])


def project_venv(folder: str = ".venv", extra: str = "test", python: str = sys.executable) -> Path:
    return make_venv(python, ROOT / folder, ["--editable", f".[{extra}]"], ROOT / "pyproject.toml")


def find_python(version: str) -> str | None:
    """Returns a working interpreter of the version: pyenv's, or one on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    candidates += [sys.executable, f"python{version}"]
    probe = "import sys; raise SystemExit('.'.join(map(str, sys.version_info[:2])) != sys.argv[1])"
    for python in candidates:
        if shutil.which(python) and not subprocess.run([python, "-c", probe, version], capture_output=True).returncode:
            return python
    return None


def sanitizer_environment() -> dict[str, str]:
    """What a Python that was not built with sanitizers needs to load the sanitized library."""
    cc = compiler()
    named = "libclang_rt.asan-x86_64.so" if "clang" in compiler_version(cc) else "libasan.so"
    path = subprocess.run([*cc.split(), f"-print-file-name={named}"], capture_output=True, text=True).stdout.strip()
    options = "detect_leaks=0:detect_stack_use_after_return=0:handle_segv=1"
    return {"CORKBIND_LIBRARY": str(SANITIZED_LIBRARY), "LD_PRELOAD": path, "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": options, "UBSAN_OPTIONS": "print_stacktrace=1"}  # fmt: skip


def run_pytest(python: Path, arguments: Sequence[str], extra: dict[str, str] | None = None) -> None:
    run([python, "-m", "pytest", *arguments], env={**os.environ, **(extra or {})})


# ---- Commands ----


def command_build(options: argparse.Namespace, rest: list[str]) -> None:
    if options.without_tls:
        leave_tls_out()
    say(f"built {build_library(sanitize=options.sanitize).relative_to(ROOT)}")


def command_run(options: argparse.Namespace, rest: list[str]) -> None:
    build_library()
    example = ROOT / "docs" / "examples" / "hello.py"
    port = ["--port", str(options.port)] if options.port is not None else []
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.execve(sys.executable, [sys.executable, str(example), *port, *rest], {**os.environ, "PYTHONPATH": path})


def command_test(options: argparse.Namespace, rest: list[str]) -> None:
    build_library()
    if not options.no_c:
        run_c_tests()
        command_fuzz(options, ["--replay"])
        if os.environ.get("CORKBIND_CI"):
            command_fuzz(options, ["--seconds", "5"])
    if options.sanitize:
        build_library(sanitize=True)
        run_pytest(project_venv(), rest, sanitizer_environment())
        return
    if options.all_pythons:
        run_on_all_pythons(rest)
    else:
        run_pytest(project_venv(), rest)


def run_on_all_pythons(rest: list[str]) -> None:
    failed = []
    for version in PYTHONS:
        python = find_python(version)
        if not python:
            require_in_ci(f"Python {version} is not installed")
            continue
        say(f"Python {version}")
        try:
            run_pytest(project_venv(f".venv-{version}", python=python), rest)
        except BuildError:
            failed.append(version)
    if failed:
        raise BuildError(f"pytest failed on Python {', '.join(failed)}")


def command_lint(options: argparse.Namespace, rest: list[str]) -> None:
    build_library()
    python = project_venv()
    lint_c()
    lint_marks()
    run([python, "-m", "ruff", "check", "."])
    run([python, "-m", "ruff", "format", "--check", "."])
    if list((ROOT / "corkbind").glob("*.py")):
        run([python, "-m", "mypy", "--strict", "corkbind"])
    say("lint: nothing to complain of")


def lint_c() -> None:
    """Compiles every C file, tests too, with all warnings as errors and each compiler."""
    sources = c_files(*SOURCES)
    with only_one("compile"):
        for cc in compilers_for_tests():
            flags = (*LANGUAGE, "-O2", "-fPIC", *usable(cc, WARNINGS), "-Werror")
            compile_all((Flavour(f"lint-{slug(cc)}", cc, flags), source) for source in sources)
            compile_all((Flavour(f"lint-{slug(cc)}-kqueue", cc, (*flags, *ON_KQUEUE)), source) for source in c_files(SOURCES[0]))
            say(f"C warnings: none from {compiler_version(cc)}")


def lint_marks() -> None:
    """Refuses marks of unfinished work in what would be committed."""
    marks = re.compile(rb"\b(TO[D]O|FIX[M]E|X{3})\b")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True)
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    found = [f"{path.relative_to(ROOT)}: unfinished work" for path in paths if path.is_file() and marks.search(path.read_bytes())]
    if found:
        raise BuildError("\n".join(found))


def command_bench(options: argparse.Namespace, rest: list[str]) -> None:
    build_library()
    python = project_venv(".venv-bench", "bench")
    run([python, ROOT / "tests" / "bench" / "bench.py", *rest])


def command_fuzz(options: argparse.Namespace, rest: list[str]) -> None:
    run([sys.executable, ROOT / "tests" / "fuzz" / "fuzz.py", *rest])


def command_clean(options: argparse.Namespace, rest: list[str]) -> None:
    folders = [OUT, ROOT / "dist", *ROOT.glob(".venv*"), *ROOT.glob(".*_cache")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for path in (LIBRARY, PKG_CONFIG, *(INCLUDE / name for name in SOCKET_HEADERS)):
        path.unlink(missing_ok=True)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="build.py", description="Builds corkbind and runs its tasks.")
    commands = top.add_subparsers(dest="command", metavar="command")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, add_help=name not in ("bench", "fuzz"))

    build = add("build", "compile the shared library (what no command means)")
    build.add_argument("--sanitize", action="store_true", help="into build/asan/, with ASan and UBSan")
    build.add_argument("--without-tls", action="store_true", help="without OpenSSL: an app with AppOptions says so")
    start = add("run", "build and start docs/examples/hello.py")
    start.add_argument("--port", type=int, help="listen there")
    test = add("test", "build, run the C tests and pytest; further arguments go to pytest")
    test.add_argument("--no-c", action="store_true", help="leave the C tests out")
    test.add_argument("--sanitize", action="store_true", help="run pytest over the library with ASan and UBSan")
    test.add_argument("--all-pythons", action="store_true", help=f"run pytest on each of {', '.join(PYTHONS)}")
    add("lint", "style, types, C warnings of gcc and clang")
    add("bench", "compare with other servers; `bench --help` tells the rest")
    add("fuzz", "fuzz the C under sanitizers; `fuzz --help` tells the rest")
    add("clean", "remove everything that was built")
    return top


def main(arguments: Sequence[str]) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 (this is where it is said)
        print("corkbind needs Python 3.10 or later; this is " + sys.version.split()[0])
        return 1
    top = parser()
    if os.environ.get("CORKBIND_WITHOUT_TLS"):
        leave_tls_out()
    options, rest = top.parse_known_args(arguments or ["build"])
    if rest and options.command not in ("run", "test", "bench", "fuzz"):
        top.error(f"unknown: {' '.join(rest)}")
    try:
        globals()[f"command_{options.command}"](options, rest)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


# ---- The wheel ----

with contextlib.suppress(ImportError):
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # type: ignore[import-not-found]

    class CorkbindBuildHook(BuildHookInterface):  # type: ignore[misc]
        """Compiles the library into the wheel, which fits every Python 3 of one platform."""

        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            if self.target_name != "wheel":
                return
            if os.environ.get("CORKBIND_WITHOUT_TLS"):
                leave_tls_out()
            try:
                library = build_library(strict=False)
            except BuildError as error:
                raise SystemExit(f"corkbind: {error}") from None
            platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
            build_data.update(pure_python=False, tag=f"py3-none-{platform}")
            build_data["artifacts"] = [str(path.relative_to(ROOT)) for path in (library, *lay_out_for_embedders())]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
