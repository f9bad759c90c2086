#!/usr/bin/python3
"""`make soak [PART=name]`: every figure that the project promises, at its full size.

    soak.py [PART...]     parts that passed for this commit are not run again, unless they are named

Writes out/soak.json after each part: command, seconds, and each figure with its target and whether
it was reached. What needs root (dropping caches) says so in its part. Exits 1 if a part failed.

Debian's Python has what drives a browser.
"""

import datetime
import json
import os
import subprocess
import sys
import time
import traceback

import soak_attacks
import soak_cache
import soak_cache_hits
import soak_cache_network
import soak_copies
import soak_directory
import soak_figures
import soak_load
import soak_pages
import soak_pair
import soak_promises
from harness import TOP, run

RESULT = os.path.join(TOP, 'out', 'soak.json')
PARTS = {**soak_promises.PARTS, **soak_copies.PARTS, **soak_attacks.PARTS,
         **soak_pair.PARTS, **soak_directory.PARTS, **soak_cache.PARTS,
         **soak_cache_network.PARTS, **soak_pages.PARTS, **soak_figures.PARTS, **soak_load.PARTS,
         **soak_cache_hits.PARTS}


def commit():
    name = run('git', '-C', TOP, 'rev-parse', 'HEAD', wanted=None).stdout.strip()
    changed = run('git', '-C', TOP, 'status', '--porcelain', wanted=None).stdout.strip()
    return name[:12] + ('+changes' if changed else '')


def load():
    try:
        with open(RESULT, encoding='utf-8') as file:
            return json.load(file)
    except (OSError, ValueError):
        return {'parts': {}}


def store(result):
    os.makedirs(os.path.dirname(RESULT), exist_ok=True)
    with open(RESULT + '.new', 'w', encoding='utf-8') as file:
        json.dump(result, file, indent=1)
    os.replace(RESULT + '.new', RESULT)


def run_part(name):
    entry = {'command': f'make soak PART={name}', 'what': PARTS[name].__doc__.strip(),
             'commit': commit(), 'cpus': os.cpu_count(),
             'at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')}
    start = time.monotonic()
    try:
        entry['figures'] = PARTS[name]()
        entry['pass'] = all(figure['pass'] for figure in entry['figures'])
    except Exception as error:  # pylint: disable=broad-except
        traceback.print_exc(file=sys.stdout)
        entry |= {'figures': [], 'pass': False, 'error': str(error)[-2000:]}
    entry['seconds'] = round(time.monotonic() - start, 1)
    return entry


def print_part(name, entry):
    print(f'{"ok" if entry["pass"] else "FAILED"} {name} ({entry["seconds"]} s)')
    for figure in entry['figures']:
        print(f'   {"ok    " if figure["pass"] else "FAILED"} {figure["figure"]}: '
              f'{figure["value"]} (target {figure["target"]})')
    sys.stdout.flush()


def main():
    named = sys.argv[1:]
    unknown = [name for name in named if name not in PARTS]
    if unknown:
        sys.exit(f'no such part: {", ".join(unknown)}; there are {", ".join(PARTS)}')
    subprocess.run(['make', '--no-print-directory', '-C', TOP, 'all', 'out/release/sdk_reader'],
                   check=True, stdout=subprocess.DEVNULL)
    result, this = load(), commit()
    for name in named or PARTS:
        old = result['parts'].get(name)
        if not named and old and old['pass'] and old['commit'] == this:
            print_part(name, old)
            continue
        result['parts'][name] = run_part(name)
        store(result)
        print_part(name, result['parts'][name])
    done = [result['parts'][name]['pass'] for name in named or PARTS]
    print(f'{sum(done)} passed, {len(done) - sum(done)} failed')
    sys.exit(0 if all(done) else 1)


if __name__ == '__main__':
    main()
