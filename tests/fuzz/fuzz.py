"""Builds the fuzz targets of corkbind's C, replays their inputs, fuzzes, and measures coverage.

Run by ``build.py fuzz`` and ``build.py test``; docs/explanation/testing.md tells what the targets hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import build  # noqa: E402

OUT = build.OUT / "fuzz"
SANITIZE = "address,undefined,bounds,implicit-conversion,float-cast-overflow"
GUIDE = "-fsanitize=fuzzer-no-link"  # what is compiled with it leads the fuzzer: the core, not our models of it
FUZZ_FLAGS = (f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O2")
COVERAGE_FLAGS = ("-fprofile-instr-generate", "-fcoverage-mapping", "-g", "-O1")
WARNINGS = (*build.TEST_WARNINGS, "-Wconversion", "-Werror", f"-I{HERE}", f"-I{build.ROOT / 'tests' / 'c'}")
# Freed memory is used again sooner than by default: new pages cost more than all else.
FUZZ_OPTIONS = {**build.SANITIZER_OPTIONS, "ASAN_OPTIONS": "quarantine_size_mb=16:malloc_context_size=8"}
PARSERS = ("http_parser.c", "chunked.c", "host.c", "framing_fields.c", "scan.c", "ws_frame.c", "utf8.c",
           "ws_handshake.c", "ws_extensions.c")  # fmt: skip
CORE = build.ROOT / "corkbind" / "core"
WANTED = {"lines": 100, "branches": 95}  # per cent


class Target(NamedTuple):
    """One fuzz target: fz_<name>.c with the files of this folder that it needs."""

    name: str
    helpers: tuple[str, ...] = ()
    max_len: int = 4096
    mutates_http: bool = False
    also: str | None = None  # a target whose inputs it takes as well

    @property
    def corpus(self) -> Path:
        return HERE / "corpus" / self.name

    @property
    def regressions(self) -> Path:
        return HERE / "regressions" / self.name

    def inputs(self) -> list[Path]:
        names = [name for name in (self.name, self.also) if name]
        folders = [HERE / kind / name for name in names for kind in ("corpus", "regressions")]
        return [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]


STACK = ("response_reader.c", "reference_http.c", "reference_chunked.c")
WSCONN = (*STACK, "reference_handshake.c", "reference_extensions.c", "reference_ws.c", "server_frames.c", "client_deflate.c")
TARGETS = (
    Target("http", ("reference_http.c",), mutates_http=True),
    Target("chunked", ("reference_chunked.c", "reference_http.c"), mutates_http=True),
    Target("values", ("reference_http.c",), 1024, mutates_http=True),
    Target("router", max_len=1024),
    Target("proxy", max_len=600),
    Target("handles", max_len=512),
    Target("ws", ("reference_ws.c",), 2048),
    Target("handshake", ("reference_handshake.c", "reference_extensions.c", "reference_http.c"), 1024, mutates_http=True),
    Target("deflate", max_len=1024),
    Target("topic", max_len=1500),
    Target("respond", ("response_reader.c", "reference_http.c"), 512),
    Target("wsconn", WSCONN, 512),
    Target("wsconn_tls", (*WSCONN, "tls_material.c"), 512, also="wsconn"),
    Target("tls", ("tls_material.c",), 2048),
    Target("stack", STACK, 1024, mutates_http=True),
    Target("stack_tls", (*STACK, "tls_material.c"), 1024, mutates_http=True, also="stack"),
)


# ---- Building ----


def flavour(name: str, cc: str, flags: Sequence[str]) -> build.Flavour:
    return build.Flavour(name, cc, (*build.LANGUAGE, *flags))


def binaries(made: build.Flavour, targets: Sequence[Target], replay: bool, link_flags: Sequence[str] = ()) -> list[Path]:
    """Compiles and links each target, with our own main or libFuzzer's. Returns the programs."""
    build.require_headers(made.cc)
    ours = build.Flavour(made.name, made.cc, (*(flag for flag in made.flags if flag != GUIDE), *WARNINGS))
    core = [(made, path) for path in build.c_files(*build.SOURCES)]
    programs = []
    for target in targets:
        names = [f"fz_{target.name}.c", *target.helpers, *(["replay.c"] if replay else [])]
        names += ["mutate_http.c"] if target.mutates_http and not replay else []
        parts = [*core, *((ours, HERE / name) for name in names)]
        program = OUT / made.name / target.name
        with build.only_one("compile"):
            build.compile_all(parts)
            build.link(made, [flavour.object_of(path) for flavour, path in parts], program, link_flags)
        programs.append(program)
    return programs


def fuzzers(targets: Sequence[Target]) -> list[Path]:
    if not shutil.which("clang") or not build.takes("clang", GUIDE, *FUZZ_FLAGS):
        raise build.BuildError("fuzzing needs clang with its runtime libraries (Debian: clang libclang-rt-14-dev)")
    return binaries(flavour("fuzz", "clang", (GUIDE, *FUZZ_FLAGS)), targets, False, [f"-fsanitize=fuzzer,{SANITIZE}"])


# ---- Commands ----


def replay(targets: Sequence[Target]) -> None:
    """Runs every input of the tree once, with each compiler's sanitizers."""
    environment = {**build.SANITIZER_OPTIONS, **os.environ}
    for cc in build.compilers_for_tests():
        if not build.takes(cc, *build.SANITIZE):
            build.require_in_ci(f"{cc} has no sanitizers")
            continue
        for target, program in zip(targets, binaries(build.sanitized_flavour(cc), targets, True), strict=True):
            command, name = [program, *target.inputs()], f"fz_{target.name} [{build.slug(cc)}]"
            done = subprocess.run(command, cwd=build.ROOT, capture_output=True, env=environment, timeout=build.TEST_SECONDS)
            output = (done.stdout + done.stderr).decode(errors="replace")
            if done.returncode:
                raise build.BuildError(f"{name}: FAILED\n{build.shortened(output)}")
            build.say(f"{name}: {output.strip()} replayed")


def fuzz(targets: Sequence[Target], seconds: int) -> None:
    """Fuzzes each target for a time. A finding stays in build/fuzz/findings/."""
    for target, program in zip(targets, fuzzers(targets), strict=True):
        build.say(f"fz_{target.name}: {seconds} s")
        findings, grown = OUT / "findings", OUT / "corpus" / target.name
        findings.mkdir(parents=True, exist_ok=True)
        grown.mkdir(parents=True, exist_ok=True)
        dictionary = HERE / "dict" / f"{target.name}.dict"
        options = [f"-max_total_time={seconds}", f"-max_len={target.max_len}", "-timeout=10", "-rss_limit_mb=2048"]
        options += ["-print_final_stats=1", f"-artifact_prefix={findings}/{target.name}-"]
        options += [f"-dict={dictionary}"] if dictionary.exists() else []
        log = OUT / f"{target.name}.log"
        with log.open("w") as output:
            done = subprocess.run([program, *options, grown, *target.inputs()], cwd=build.ROOT, stdout=output,
                                  stderr=subprocess.STDOUT, env={**FUZZ_OPTIONS, **os.environ})  # fmt: skip
        text = log.read_text(errors="replace")
        if done.returncode:
            raise build.BuildError(f"fz_{target.name}: a finding (exit status {done.returncode})\n{build.shortened(text, 40)}")
        build.say(summary(text))


def summary(log: str) -> str:
    """Returns what libFuzzer did, from the statistics at its end."""
    lines = log.splitlines()
    figures = dict(line[6:].split(": ", 1) for line in lines if line.startswith("stat::"))
    inputs, rate = (figures.get(name, "?").strip() for name in ("number_of_executed_units", "average_exec_per_sec"))
    last = next((line for line in reversed(lines) if " cov: " in line), "")
    return f"  {inputs} inputs, {rate}/s;{last.partition('DONE')[2].partition(' lim:')[0]}"


def minimise(targets: Sequence[Target]) -> None:
    """Adds to the corpora of the tree the smallest inputs that reach what fuzzing has found since."""
    for target, program in zip(targets, fuzzers(targets), strict=True):
        grown = OUT / "corpus" / target.name
        target.corpus.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            for path in target.corpus.iterdir():
                shutil.copy(path, folder)
            before = set(os.listdir(folder))
            build.run([program, "-set_cover_merge=1", f"-max_len={target.max_len}", folder, grown], stderr=subprocess.DEVNULL)
            added = sorted(set(os.listdir(folder)) - before)
            for name in added:
                shutil.copy(Path(folder) / name, target.corpus / f"found-{name[:12]}")
        build.say(f"fz_{target.name}: {len(added)} inputs added")


# ---- Coverage ----


def llvm_tool(name: str) -> str:
    """Returns the tool that fits clang's version."""
    shown = subprocess.run(["clang", "-print-prog-name=" + name], capture_output=True, text=True).stdout.strip()
    if not shutil.which(shown):
        raise build.BuildError(f"coverage needs {name} of clang's version (Debian: llvm)")
    return shown


def measured(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Replays the corpora; returns what llvm-cov tells of each parser."""
    programs = binaries(flavour("coverage", "clang", COVERAGE_FLAGS), targets, True, COVERAGE_FLAGS)
    profiles = []
    for target, program in zip(targets, programs, strict=True):
        profiles.append(OUT / "coverage" / f"{target.name}.profraw")
        environment = {**os.environ, "LLVM_PROFILE_FILE": str(profiles[-1])}
        build.run([program, *target.inputs()], env=environment, stdout=subprocess.DEVNULL)
    merged = OUT / "coverage" / "all.profdata"
    build.run([llvm_tool("llvm-profdata"), "merge", "-sparse", *profiles, "-o", merged])
    objects = [word for program in programs[1:] for word in ("-object", str(program))]
    command = [llvm_tool("llvm-cov"), "export", f"-instr-profile={merged}", str(programs[0]), *objects, str(CORE)]
    exported = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [file for file in exported["data"][0]["files"] if Path(file["filename"]).name in PARSERS]


def coverage(targets: Sequence[Target]) -> None:
    """Prints what the corpora alone reach of the parsers; fails below what is wanted."""
    files = measured(targets)
    if len(files) != len(PARSERS):
        raise build.BuildError(f"no coverage of some of {', '.join(PARSERS)}")
    for file in files:
        parts = (f"{share['covered']}/{share['count']} {kind}" for kind, share in shares(file).items())
        build.say(f"{Path(file['filename']).name}: {', '.join(parts)}")
        for text in missed(file):
            build.say(f"  {text}")
    reached = {}
    for kind in WANTED:
        covered, count = (sum(shares(file)[kind][part] for file in files) for part in ("covered", "count"))
        reached[kind] = 100 * covered / count
    told = ", ".join(f"{reached[kind]:.2f} % of {kind} (wanted: {wanted})" for kind, wanted in WANTED.items())
    build.say(f"parsers from the corpora alone: {told}")
    if any(reached[kind] < wanted for kind, wanted in WANTED.items()):
        raise build.BuildError("the corpora reach too little of the parsers")


def shares(file: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {kind: file["summary"][kind] for kind in WANTED}


def missed(file: dict[str, Any]) -> Iterator[str]:
    """Names each branch that was never taken in one of its two ways."""
    for branch in file["branches"]:
        line, column, taken, not_taken = branch[0], branch[1], branch[4], branch[5]
        if not taken or not not_taken:
            yield f"line {line}, column {column}: never {'true' if not taken else 'false'}"


def chosen(name: str | None) -> tuple[Target, ...]:
    found = tuple(target for target in TARGETS if name in (None, target.name, f"fz_{target.name}"))
    if not found:
        raise build.BuildError(f"no fuzz target {name!r}; there are {', '.join(target.name for target in TARGETS)}")
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="build.py fuzz", description="Fuzzes corkbind's C under sanitizers.")
    parser.add_argument("target", nargs="?", help=f"one of {', '.join(target.name for target in TARGETS)}; all when left out")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--replay", action="store_true", help="run the corpora and regressions once, with every compiler")
    parser.add_argument("--minimise", action="store_true", help="add to the corpora what fuzzing has found since")
    parser.add_argument("--coverage", action="store_true", help="report what the corpora reach of the parsers")
    options = parser.parse_args(arguments)
    try:
        targets = chosen(options.target)
        if options.replay:
            replay(targets)
        elif options.minimise:
            minimise(targets)
        elif options.coverage:
            coverage(targets)
        else:
            fuzz(targets, options.seconds)
    except build.BuildError as error:
        print(f"build.py fuzz: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
