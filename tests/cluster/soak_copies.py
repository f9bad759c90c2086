"""Parts of the soak about three copies: fsync on each, kills, stops, damage, partitions.

What must never happen (a failed read, a lost image) ends a part at once; so a figure of those says
how often it could have.
"""

import json
import os
import re

from copies_test import SPANS, queues, rot, slow_disk, stopped_dsps
from disk_test import check_fsync_is_real
from harness import TOP, run
from kill_test import chaos_with_copies
from soak_promises import equal, figure


def at_least(name, value, target):
    return figure(name, value, f'>= {target}', value >= target)


def at_most(name, value, target):
    return figure(name, value, f'<= {target}', value <= target)


def fsync_copies():
    """strace of three dsps: each answer follows an fdatasync on each that covers its last byte."""
    report = check_fsync_is_real(100, copies=3)
    return [equal('uploads whose answer follows an fdatasync on each of 3', report['proven'], 100),
            at_least('fdatasyncs for them', report['syncs'], 300)]


def kills_copies():
    """60 s of uploads and reads; a dsp, machine, gateway or nameserver is killed each second."""
    report = chaos_with_copies(60, directory_shards=0)
    return [equal('acknowledged uploads lost, on any replica', report['lost'], 0),
            at_least('reads by HTTP, of which none failed', report['http_reads'], 1200),
            at_least('reads by the SDK, of which none failed', report['sdk_reads'], 1200),
            at_most('longest time without an acknowledgement, s', report['longest_gap_s'], 5),
            at_least('acknowledged uploads', report['acknowledged'], 400),
            figure('kills', json.dumps(report['kills']), '>= 58',
                   sum(report['kills'].values()) >= 58)]


def stops():
    """SIGSTOP of a secondary, then of a primary, under 64 uploaders."""
    report = stopped_dsps(threads=64, seconds=9, restart=True)
    normal = max(0.3, 3 * report['before'])
    return [at_least('uploads, of which none failed', report['acknowledged'], 1000)] + [
        at_most(f'p99 of uploads {span}, {role} stopped, s', report[role][span], most)
        for role in ('secondary', 'primary') for span, most in zip(SPANS, (3, normal))] + [
        at_least('files, as many after a restart as before', report['needles'],
                 report['acknowledged'])]


def bit_rot():
    """A byte flipped in one replica of each of 400 images, which are read 3 times."""
    report = rot(400)
    return [at_least('reads, all of them right', 3 * report['images'], 1200),
            at_least('needles flipped', report['flipped'], 200),
            at_least('found and counted by that dsp', report['counted'], report['flipped'])]


def slow_disks():
    """One dsp's syncs take 3 s and its reads 0.2 s, for 20 s."""
    report = slow_disk(20)
    most = max(0.05, 2 * report['read_p99_before'])
    return [at_most('p99 of reads later, s', report['read_p99_later'], most),
            at_most('slowest read, s', report['read_slowest'], 1),
            at_most('slowest upload, s', report['upload_slowest'], 5),
            at_most('p99 of uploads later, s', report['upload_p99_later'],
                    max(0.3, 2 * report['upload_p99_before']))]


def full_queues():
    """256 uploaders, every dsp primary of some blocks and secondary of others, for 15 s."""
    report = queues(15)
    return [equal('failed uploads', report['uploads']['errors'], 0),
            at_least('uploads a second', round(report['uploads']['per_s']), 100),
            at_most('slowest upload, s', report['uploads']['max_us'] / 1e6, 5)]


def partitions():
    """Four machines in network namespaces: half cut off, one way, a cable out, a flapping link."""
    done = run(os.path.join(TOP, 'tests', 'cluster', 'network_test.py'), '--seconds', 10,
               timeout=600, wanted=None)
    print(done.stdout[-3000:])
    if 'skipped: ' in done.stdout:
        return [figure('network namespaces', 'not allowed here', 'skipped', True)]
    found = re.search(r'^(\{.*\})$', done.stdout, re.M)
    report = json.loads(found.group(1)) if found else {}
    gaps = [at_most(f'{name}: longest time without an acknowledgement, s',
                    told['longest_gap_s'], 5)
            for name, told in report.items() if isinstance(told, dict)]
    return [equal('exit code', done.returncode, 0),
            at_least('uploads, of which none failed', report.get('uploads', 0), 500),
            at_least('reads, of which none failed', report.get('reads', 0), 500)] + gaps


PARTS = {part.__name__: part for part in (fsync_copies, kills_copies, stops, bit_rot, slow_disks,
                                          full_queues, partitions)}
