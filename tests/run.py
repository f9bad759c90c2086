#!/usr/bin/env python3
"""`make check` and `make test`: all that is to pass, one step after the other.

Each step's output goes to out/test/NAME.log; the terminal gets one line a step and what failed in
it: the failed cases themselves, as the end of a log is rarely the place. All of that once more at
the end, before the line that sums up: N passed, N failed.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
LOGS = os.path.join(TOP, 'out', 'test')
MAKE = ['make', '--no-print-directory']
BUILT = ('all', 'out/{mode}/unit', 'out/{mode}/sim_test', 'out/{mode}/sdk_reader')


def build(mode):
    return MAKE + [f'MODE={mode}'] + [t.format(mode=mode) for t in BUILT]


def cluster_test(name, mode='release'):
    return (f'cluster-{name}-{mode}', ['tests/cluster/' + name + '_test.py'], {'MODE': mode})


# About half of the unit tests' time: what lies on a disk.
BLOCKS = 'crash_sweep*,bit_flip*,dsp*,disk_start*,delete_log*,block*,full_disk*'

# name, command, environment; in this order. What stands in a list together runs at the same time.
CHECK = [
    ('build-release', build('release'), {}),
    ('lint', MAKE + ['lint'], {}),
    ('unit-release', ['out/release/unit'], {}),
    ('sim-release', ['out/release/sim_test', '--seeds=40', f'--jobs={os.cpu_count()}'], {}),
    cluster_test('dataserver'),
]
TEST = [
    ('build-release', build('release'), {}),
    ('build-asan', build('asan'), {}),
    # Each of these uses one processor for most of its time: they run beside each other, the longest
    # first.
    [('unit-asan-blocks', ['out/asan/unit', '-tc=' + BLOCKS], {}),
     ('unit-asan', ['out/asan/unit', '-tce=' + BLOCKS], {}),
     ('unit-release', ['out/release/unit'], {}),
     ('bench-smoke', MAKE + ['bench-smoke'], {}),
     ('lint', MAKE + ['lint'], {}),
     ('fuzz-syntax', MAKE + ['fuzz-syntax'], {})],
    ('sim-release', ['out/release/sim_test', '--seeds=300', f'--jobs={os.cpu_count()}'], {}),
    ('sim-mutants', MAKE + ['mutants'], {}),
    ('sim-asan', ['out/asan/sim_test', '--seeds=20', '--from=1000000',
                  f'--jobs={os.cpu_count()}'], {}),
    # These wait for most of their time: for deadlines, for processes to start, for a browser. The
    # longest first.
    [cluster_test('pair'),
     cluster_test('pair_network'),
     cluster_test('commands'),
     cluster_test('copies'),
     cluster_test('restart'),
     cluster_test('kill'),
     cluster_test('disk'),
     cluster_test('browser'),
     cluster_test('fronts'),
     cluster_test('sdk'),
     cluster_test('clients'),
     cluster_test('dataserver'),
     cluster_test('openapi'),
     cluster_test('tls'),
     cluster_test('origin'),
     cluster_test('upload'),
     cluster_test('drain'),
     cluster_test('http'),
     cluster_test('fields'),
     cluster_test('hostile'),
     cluster_test('access_log'),
     cluster_test('sign'),
     cluster_test('directory'),
     cluster_test('dedup'),
     cluster_test('purge'),
     cluster_test('systemd')],
    # These measure time, or fill the machine.
    cluster_test('cache'),
    cluster_test('rights'),
    cluster_test('attack'),
    cluster_test('overload'),
    cluster_test('rate'),
    cluster_test('network'),
    cluster_test('cache_network'),
    cluster_test('pair_restart'),
    cluster_test('clocks_network'),
    cluster_test('kill', 'asan'),
    cluster_test('steps', 'asan'),
]

# How the steps say how many passed and failed; a step that says neither counts as one.
COUNTS = (r'test cases:\s*\d+ \|\s*(?P<passed>\d+) passed \|\s*(?P<failed>\d+) failed',
          r'^(?P<passed>\d+) passed, (?P<failed>\d+) failed',
          r'(?P<passed>\d+) seeds from')


def counts(output, exit_code):
    """(passed, failed) of a step; what exits with an error has at least one failure."""
    passed = failed = 0
    for pattern in COUNTS:
        for match in re.finditer(pattern, output, re.M):
            passed += int(match['passed'])
            failed += int(match.groupdict().get('failed') or 0)
    if passed + failed == 0:
        passed = 1
    if exit_code != 0 and failed == 0:
        return passed - 1, 1
    return passed, failed


# What begins the report of a failure, what ends it (None: its line is all), how many lines before
# it belong to it and how many it may have. doctest's cases, between lines of '=', are taken apart.
RULE = re.compile(r'^={60,}$')
BEGINNINGS = (
    (re.compile(r'^(FAIL|ERROR): \w'), re.compile(r'^={60,}$|^Ran \d+ tests?'), 0, 20),  # unittest
    (re.compile(r'^FAILED \w'), re.compile(r'^(ok|FAILED) |^\d+ passed, '), 0, 20),  # tests/cluster
    (re.compile(r'^replay: '), None, 6, 7),  # the simulator: what failed stands before
    (re.compile(r'ERROR: \w+Sanitizer|: runtime error: '), re.compile(r'^$'), 0, 15),
    (re.compile(r': (fatal )?error: |^make.*\*\*\* |undefined reference|^assert_failed '), None, 0,
     1),
    (re.compile(r'^[\w./-]+:\d+: (?!MESSAGE|WARNING)\w'), None, 0, 1),  # lint
)
WRONG = re.compile(r': (FATAL )?ERROR: ')  # of an assertion of doctest, or of what a case threw
LINES_MAX = 60


def doctest_block(lines):
    """A case's name and what was wrong in it, of the lines between two rules; [] if nothing was."""
    paragraphs = [part.split('\n') for part in '\n'.join(lines).strip('\n').split('\n\n')]
    wrong = [part[:12] for part in paragraphs if WRONG.search(part[0])]
    if not wrong or not any(line.startswith('TEST CASE:') for line in lines):
        return []
    case = paragraphs[0]
    case = case[max(0, next((i for i, line in enumerate(case) if line.startswith('TEST CASE:')), 0)
                    - 1):]
    return case + [line for part in wrong for line in part]


def other_block(lines, at):
    """(the report that begins with line `at`, the line behind it), or None."""
    for beginning, end, before, most in BEGINNINGS:
        if not beginning.search(lines[at]) or WRONG.search(lines[at]):
            continue
        last = at + 1
        while last < len(lines) and end is not None and not end.search(lines[last]):
            last += 1
        block = lines[max(0, at - before):last]
        if len(block) > most:  # of a traceback, the end says what
            block = block[:most // 3] + ['...'] + block[-(most - most // 3):]
        return block, last
    return None


def failure_blocks(output):
    """The reports of what failed in a step's output, each a list of lines."""
    lines = output.splitlines()
    blocks, at = [], 0
    rules = [i for i, line in enumerate(lines) if RULE.match(line)] + [len(lines)]
    for begin, end in zip(rules, rules[1:]):
        block = doctest_block(lines[begin + 1:end])
        if block:
            blocks.append((begin, block))
    while at < len(lines):
        found = other_block(lines, at)
        if found:
            blocks.append((at, found[0]))
        at = found[1] if found else at + 1
    return [block for _, block in sorted(blocks, key=lambda each: each[0])]


def report(name, output):
    """What to print of a failed step: at most LINES_MAX lines and one for what was left out."""
    blocks = failure_blocks(output)
    if not blocks:
        return output.splitlines()[-LINES_MAX:]
    shown = []
    for number, block in enumerate(blocks):
        if shown and len(shown) + len(block) > LINES_MAX:
            shown.append(f'... and {len(blocks) - number} more in out/test/{name}.log')
            break
        shown += block[:LINES_MAX]
    return shown


# A network of its own: what is killed and started again finds its port free, whatever else runs on
# this machine meanwhile.
APART = ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']


def side_by_side(steps):
    """(steps, how many of them at a time): clusters share a machine only if each can be apart."""
    if not any(name.startswith('cluster-') for name, _, _ in steps):
        return steps, os.cpu_count()
    if subprocess.run(APART + ['true'], capture_output=True, check=False).returncode != 0:
        return steps, 1
    return [(name, APART + command if name.startswith('cluster-') else command, more)
            for name, command, more in steps], os.cpu_count()


def run_step(name, command, environment):
    """(passed, failed, the lines that say what failed)."""
    start = time.monotonic()
    with open(os.path.join(LOGS, name + '.log'), 'w+', encoding='utf-8', errors='replace') as log:
        exit_code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=TOP,
                                   stdin=subprocess.DEVNULL, check=False,
                                   env=dict(os.environ, **environment)).returncode
        log.seek(0)
        output = log.read()
    passed, failed = counts(output, exit_code)
    print(f'{name:28} {passed:6} passed {failed:4} failed {time.monotonic() - start:7.1f} s',
          flush=True)
    for line in re.findall(r'skipped: .*', output):  # what this machine does not allow
        print('   ', line, flush=True)
    failures = report(name, output) if failed else []
    for line in failures:
        print('   ', line, flush=True)
    return passed, failed, failures


def main():
    os.makedirs(LOGS, exist_ok=True)
    wanted = sys.argv[2:]
    passed = failed = 0
    failures = {}
    for group in {'check': CHECK, 'test': TEST}[sys.argv[1]]:
        steps = [step for step in (group if isinstance(group, list) else [group])
                 if not wanted or step[0] in wanted]
        steps, at_a_time = side_by_side(steps)
        with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
            done = list(pool.map(lambda step: run_step(*step), steps))
        for step, (more_passed, more_failed, lines) in zip(steps, done):
            passed += more_passed
            failed += more_failed
            if more_failed:
                failures[step[0]] = lines
        if failures and steps and steps[0][0].startswith('build'):
            break  # nothing that follows would mean anything
    for name, lines in failures.items():
        print(f'--- failed in {name}:', *lines, sep='\n    ')
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
