#!/usr/bin/env python3
"""Runs the fuzzers and says how many inputs each tried and which lines of its decoder it reached.

    tests/fuzz/run.py --out out/fuzz [--runs 1000000] [--target frame_fuzz] [--jobs 2]

A target is out/fuzz/bin/NAME, built from tests/fuzz/NAME.cc. It starts from tests/fuzz/corpus/NAME/
(*.hex are hex digits, '#' begins a comment; anything else is taken as it is) and what earlier runs
found, kept in out/fuzz/corpus/NAME. Words to try are in tests/fuzz/dictionaries/NAME.dict. Lines
`// covers: FILE [FUNCTION...]` of the source name the decoder.
A finding is left in out/fuzz/found/ and ends this with 1.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

INPUT_BYTES_MAX = 8192
# The parser's bounds are 8 KiB a line and 32 KiB a head; what two parsers differ about is short,
# and so is what a field of a request holds.
OTHER_BYTES_MAX = {"http_parser_fuzz": 40_000, "parser_differential_fuzz": 1024,
                   "ranges_fuzz": 512, "conditions_fuzz": 512, "content_coding_fuzz": 192,
                   "query_fuzz": 512, "content_disposition_fuzz": 384, "cache_control_fuzz": 32}


def seeds_into(target, folder):
    folder.mkdir(parents=True, exist_ok=True)
    source = pathlib.Path("tests/fuzz/corpus") / target
    for seed in sorted(source.iterdir()) if source.is_dir() else []:
        content = seed.read_bytes()
        if seed.suffix == ".hex":
            digits = "".join(line.split("#")[0] for line in content.decode().splitlines())
            content = bytes.fromhex(digits)
        (folder / ("seed_" + seed.stem)).write_bytes(content)


def decoders(target):
    """(file, [function]) of each `// covers:` line; no function means the whole file."""
    text = (pathlib.Path("tests/fuzz") / (target + ".cc")).read_text()
    lines = [line.split() for line in re.findall(r"^// covers: (.*)$", text, re.M)]
    return [(words[0], words[1:]) for words in lines]


def coverage(out, target, corpus):
    """(lines reached, lines) of each decoder when the whole corpus is run once."""
    binary, raw, data = out / "bin" / target, out / (target + ".profraw"), out / (target + ".prof")
    environment = dict(os.environ, LLVM_PROFILE_FILE=str(raw))
    subprocess.run([binary, "-runs=0", corpus], env=environment, check=True, capture_output=True)
    subprocess.run(["llvm-profdata-14", "merge", "-o", data, raw], check=True)
    reached = {}
    for source, functions in decoders(target):
        if not pathlib.Path(source).exists():
            sys.exit(f"tests/fuzz/{target}.cc covers {source}, which is no file")
        report = subprocess.run(
            ["llvm-cov-14", "report", "-show-functions", binary, f"-instr-profile={data}", source],
            check=True, capture_output=True, text=True)
        rows = re.findall(r"^(\S+) +\d+ +\d+ +\S+% +(\d+) +(\d+) ", report.stdout, re.M)
        mangled = [f"{len(name)}{name}" for name in functions]
        counted = [(int(lines), int(missed)) for name, lines, missed in rows if name != "TOTAL"
                   and (not mangled or any(part in name for part in mangled))]
        total = sum(lines for lines, _ in counted)
        reached[source] = (total - sum(missed for _, missed in counted), total)
    return reached


def fuzz(out, target, runs):
    corpus, found = out / "corpus" / target, out / "found"
    seeds_into(target, corpus)
    found.mkdir(exist_ok=True)
    bytes_max = OTHER_BYTES_MAX.get(target, INPUT_BYTES_MAX)
    words = pathlib.Path("tests/fuzz/dictionaries") / (target + ".dict")
    command = [out / "bin" / target, f"-runs={runs}", f"-max_len={bytes_max}", "-timeout=10",
               "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={found}/{target}-",
               *([f"-dict={words}"] if words.exists() else []), corpus]
    environment = dict(os.environ, LLVM_PROFILE_FILE="/dev/null",
                       ASAN_OPTIONS="detect_container_overflow=0")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return {"target": target, "executions": int(executed.group(1)) if executed else 0,
            "crashed": done.returncode != 0, "stderr": done.stderr,
            "lines": coverage(out, target, corpus) if done.returncode == 0 else {}}


def say(result):
    reached = ", ".join(f"{name} {covered}/{count} lines"
                        for name, (covered, count) in sorted(result["lines"].items()))
    print(f"{result['target']}: {result['executions']} executions, "
          f"{'A FINDING' if result['crashed'] else 'no finding'}; {reached}", flush=True)
    if result["crashed"]:
        print(result["stderr"][-6000:], file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--target", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    targets = sorted(path.stem for path in pathlib.Path("tests/fuzz").glob("*_fuzz.cc"))
    if options.target:
        named = options.target.removesuffix("_fuzz") + "_fuzz"
        if named not in targets:
            sys.exit(f"no target {named}; there are: {' '.join(targets)}")
        targets = [named]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda target: fuzz(options.out, target, options.runs), targets))
    for result in results:
        say(result)
    summary = {result["target"]: {"executions": result["executions"], "crashed": result["crashed"],
                                  "lines": result["lines"]} for result in results}
    (options.out / "fuzz.json").write_text(json.dumps(summary, indent=1) + "\n")
    sys.exit(1 if any(result["crashed"] for result in results) else 0)


if __name__ == "__main__":
    main()
