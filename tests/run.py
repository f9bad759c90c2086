#!/usr/bin/env python3
"""`make check` and `make test`: all that is to pass, one step after the other.

Each step's output goes to out/test/NAME.log; the terminal gets one line a step, the log of a step
that fails, and at the end one line that sums up all: N passed, N failed.
"""

import os
import re
import subprocess
import sys
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
LOGS = os.path.join(TOP, 'out', 'test')
BUILT = ('all', 'out/{mode}/unit', 'out/{mode}/sim_test')


def build(mode):
    return ['make', '--no-print-directory', f'MODE={mode}'] + [t.format(mode=mode) for t in BUILT]


def cluster_test(name, mode='release'):
    return (f'cluster-{name}-{mode}', ['tests/cluster/' + name + '_test.py'], {'MODE': mode})


# name, command, environment; in this order
CHECK = [
    ('build-release', build('release'), {}),
    ('lint', ['make', '--no-print-directory', 'lint'], {}),
    ('unit-release', ['out/release/unit'], {}),
    ('sim-release', ['out/release/sim_test', '--seeds=40', f'--jobs={os.cpu_count()}'], {}),
    cluster_test('dataserver'),
]
TEST = [
    ('build-release', build('release'), {}),
    ('build-asan', build('asan'), {}),
    ('lint', ['make', '--no-print-directory', 'lint'], {}),
    ('unit-release', ['out/release/unit'], {}),
    ('unit-asan', ['out/asan/unit'], {}),
    ('sim-release', ['out/release/sim_test', '--seeds=300', f'--jobs={os.cpu_count()}'], {}),
    ('sim-asan', ['out/asan/sim_test', '--seeds=20', '--from=1000000',
                  f'--jobs={os.cpu_count()}'], {}),
    cluster_test('dataserver'),
    cluster_test('commands'),
    cluster_test('http'),
    cluster_test('restart'),
    cluster_test('disk'),
    cluster_test('kill'),
    cluster_test('kill', 'asan'),
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


def run_step(name, command, environment):
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
    if failed:
        print(*output.splitlines()[-60:], sep='\n', flush=True)
    return passed, failed


def main():
    os.makedirs(LOGS, exist_ok=True)
    steps = {'check': CHECK, 'test': TEST}[sys.argv[1]]
    wanted = sys.argv[2:]
    passed = failed = 0
    for step in steps:
        if wanted and step[0] not in wanted:
            continue
        more_passed, more_failed = run_step(*step)
        passed += more_passed
        failed += more_failed
        if more_failed and step[0].startswith('build'):
            break  # nothing that follows would mean anything
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
