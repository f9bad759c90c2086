"""`make soak`: duplicates of real images, and a directory that is killed again and again."""

import os
import re
import subprocess

import dedup_test
import steps_test
from harness import TOP, Cluster, check, check_equal, run
from soak_promises import equal, figure, make

MOKA = '/usr/share/icons/Moka'
KILLS_S = 60
STEP_KILLS = 5


def files_below(folder):
    """All files, those behind symbolic links too."""
    check(os.path.isdir(folder), f'{folder} is there')
    found = run('find', '-L', folder, '-type', 'f', timeout=120).stdout.splitlines()
    return sorted(found)


def distinct_by_sha1sum(paths):
    """(how many files, their bytes) as `sha1sum | sort -u` says, a second opinion."""
    done = subprocess.run(['xargs', '-0', 'sha1sum', '-z', '--'], input='\0'.join(paths).encode(),
                          capture_output=True, check=True)
    lines = [line for line in done.stdout.split(b'\0') if line]
    first = {line[:40]: line[42:] for line in lines}
    return len(first), sum(os.path.getsize(path) for path in first.values())


def stored_once(folder):
    paths = [path for path in files_below(folder) if os.path.getsize(path) > 0]
    wanted = distinct_by_sha1sum(paths)
    with Cluster(disks=2) as cluster:
        cluster.up()
        uploads, distinct, size = dedup_test.check_stored_once(cluster, paths)
        stored = (dedup_test.metrics(cluster, 'uploads_total'),
                  dedup_test.metrics(cluster, 'upload_bytes_total'))
        dedup_test.check_stored_again(cluster, paths, distinct, size)
    return [figure(f'{folder}: files stored of {uploads}', stored[0], wanted[0],
                   stored[0] == wanted[0] == distinct),
            figure('bytes stored', stored[1], wanted[1], stored[1] == wanted[1] == size)]


def duplicates_openclipart():
    """All PNG of openclipart-png, twice: stored files and bytes are the distinct ones."""
    return stored_once(dedup_test.IMAGES)


def duplicates_moka():
    """moka-icon-theme with its symbolic links followed, twice: likewise."""
    return stored_once(MOKA)


def directory_kills():
    """kill -9 of a directory node or a gateway each second, under uploads of which half are
    duplicates: nothing lost, nothing wrong, and fsck adopts what has no record."""
    report = dedup_test.chaos(KILLS_S)
    kills = sum(report['kills'].values())
    return [figure('kills', kills, f'>= {KILLS_S - 2}', kills >= KILLS_S - 2),
            figure('uploads acknowledged', report['uploads'], '> 0', report['uploads'] > 0),
            figure('of these duplicates', report['duplicates'], '> 0', report['duplicates'] > 0),
            figure('lost', report['lost'], 0, report['lost'] == 0),
            figure('wrong', report['wrong'], 0, report['wrong'] == 0)]


def directory_steps():
    """Kills of directory and gateway at each step, test build: all is as users were told."""
    check_equal(make('MODE=asan', 'binaries').returncode, 0, 'build of MODE=asan')
    script = os.path.join(TOP, 'tests', 'cluster', 'steps_test.py')
    done = run(script, '--kills', STEP_KILLS, env=dict(os.environ, MODE='asan'), timeout=1800,
               wanted=None)
    kills = len(re.findall(r'^\w+: [\d.]+ s$', done.stdout, re.M))
    wanted = STEP_KILLS * len(steps_test.DIRECTORY + steps_test.GATEWAY)
    return [equal('exit code', done.returncode, 0),
            figure('kills', kills, f'>= {wanted}', kills >= wanted)]


PARTS = {'duplicates_openclipart': duplicates_openclipart, 'duplicates_moka': duplicates_moka,
         'directory_kills': directory_kills, 'directory_steps': directory_steps}
