#!/usr/bin/env python3
"""The systemd units leave little open to the services (S22), and let no secret be dumped."""

import glob
import os
import re
import shutil
import tempfile

from harness import TOP, check, check_equal, main, run

EXPOSURE_MAX = 2.0


def units(folder):
    """The units as `make install` writes them, but for a program that is there."""
    for path in sorted(glob.glob(os.path.join(TOP, 'packaging', 'systemd', '*.service.in'))):
        with open(path, encoding='utf-8') as file:
            text = file.read()
        made = os.path.join(folder, os.path.basename(path)[:-len('.in')])
        with open(made, 'w', encoding='utf-8') as file:
            file.write(re.sub(r'@BINDIR@/hayloft-\w+', '/bin/true', text))
        yield made, text


def test_units():
    """S22, S18: each exposed by at most 2.0, without a fault; no core files; LoadCredential."""
    if shutil.which('systemd-analyze') is None:
        print('skipped: systemd-analyze is not here')
        return
    folder = tempfile.mkdtemp(prefix='hayloft-test-')
    try:
        count = 0
        for path, text in units(folder):
            count += 1
            name = os.path.basename(path)
            done = run('systemd-analyze', 'security', '--offline=true', path, wanted=None)
            found = re.search(r'Overall exposure level for \S+: ([0-9.]+)', done.stdout)
            check(found, f'{name}: {done.stdout[-300:]} {done.stderr[-300:]}')
            print(f'{name}: exposure {found[1]}')
            check(float(found[1]) <= EXPOSURE_MAX, f'{name}: exposure {found[1]}')
            check('LimitCORE=0\n' in text, f'{name}: core files')
            check('Restart=on-failure\n' in text, f'{name}: F58: it starts again when killed')
            check('LoadCredential=cluster.key:' in text, f'{name}: the key')
            faults = run('systemd-analyze', 'verify', '--man=no', path, wanted=None).stderr
            check_equal([line for line in faults.splitlines() if name in line], [], 'faults')
        check_equal(count, 4, 'units')
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__':
    main([test_units])
