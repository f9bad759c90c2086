#!/usr/bin/env python3
"""Three copies on three machines, while one of them is stopped, slow, damaged or killed.

A dsp that is ill must cost nobody an image, an upload or a wrong byte: its replicas are read
elsewhere, its blocks closed, and what it lacks afterwards is fetched. Each test injects the fault
from outside (signals, strace, bytes changed in files) and shows that it happened.
"""

import base64
import glob
import json
import os
import re
import signal
import time

from harness import Cluster, alive, check, check_equal, main, random_bytes, wait_until
from load import (HttpReaders, Uploaders, block_of, by_replica, check_nothing_lost, measured, p99,
                  wait_sealed)
from straces import Strace

SMALL_BLOCKS = ['dsp.block_bytes=4194304', 'gateway.upload_bytes_max=1000000']
SPANS = ('at_once', 'later')
READS = 'pread64,preadv,preadv2'
SYNCS = 'fdatasync,fsync'


def three_machines(disks=1, sets=()):
    return Cluster(directory_shards=0, dataservers=3, disks=disks, copies=3, sets=sets)


def fill(cluster, count, size=9_000):
    files = {}
    for i in range(count):
        body = random_bytes(size + i)
        files[cluster.upload(body)['id']] = body
    return files


def check_reads(cluster, files, times=1):
    for _ in range(times):
        for file_id, body in files.items():
            check(cluster.download(file_id) == body, f'{file_id} is as it was')


def state_of(cluster, dsp):
    return {each['address']: each['state'] for each in cluster.status()['dsps']}[dsp['address']]


def restarted(cluster, dsp):
    """It runs, and is another process."""
    return [p for p in cluster.processes('dsp')
            if p['name'] == dsp['name'] and p['pid'] != dsp['pid']]


def busiest(cluster, name):
    """The dsp whose metric rises fastest just now."""
    dsps = cluster.processes('dsp')
    before = {dsp['name']: measured(cluster, dsp, name) for dsp in dsps}

    def risen():
        grown = [(measured(cluster, dsp, name) - before[dsp['name']], dsp) for dsp in dsps]
        most = max(grown, key=lambda each: each[0])
        return most[1] if most[0] >= 20 else None
    return wait_until(risen, f'{name} rises')


# --- a dsp that stands still ---------------------------------------------------------------------
def await_time(moment):
    wait_until(lambda: time.monotonic() >= moment, 'time passes')


def stop_one(cluster, uploaders, role, seconds):
    """SIGSTOP of a dsp for so long. Returns the p99 of uploads at once, and after 4 s."""
    busy_with = {'primary': 'appends_total', 'secondary': 'replica_commits_total'}
    victim = busiest(cluster, busy_with[role])
    begun = time.monotonic()
    cluster.kill(victim, signal.SIGSTOP)
    try:
        wait_until(lambda: state_of(cluster, victim) == 'suspect', 'the stopped one is suspect', 15)
        await_time(begun + seconds)
        check(alive(victim['pid']), 'it was stopped, not replaced')
    finally:
        ended = time.monotonic()
        cluster.kill(victim, signal.SIGCONT)
    wait_until(lambda: state_of(cluster, victim) == 'up', f'{victim["name"]} is up again')
    with uploaders.lock:
        took = list(uploaders.took)
    times = (begun - 0.5, begun + 4, ended)
    report = {span: round(p99([s for at, s in took if first <= at < last]), 3)
              for span, first, last in zip(SPANS, times, times[1:])}
    report['slowest'] = round(max(s for at, s in took if at >= begun - 0.5), 3)
    return report


def stopped_dsps(threads, seconds, restart=False):
    """A secondary, then a primary stands still under load; the report, with what exists after."""
    with three_machines(disks=2, sets=['dataserver.hang_ms=60000']) as cluster:
        cluster.up()
        report = {}
        with Uploaders(cluster, os.path.join(cluster.dir, 'up'), threads=threads) as uploaders:
            await_time(time.monotonic() + 2)
            report['before'] = round(p99([s for _, s in list(uploaders.took)]), 3)
            for role in ('secondary', 'primary'):
                report[role] = stop_one(cluster, uploaders, role, seconds)
        print(report)
        check_equal((uploaders.refused, uploaders.broken), (0, 0), 'uploads that failed')
        check_nothing_lost(cluster, uploaders)
        wait_sealed(cluster)
        report['acknowledged'] = len(uploaders.took)
        report['needles'] = settled_needles(cluster)
        check(report['needles'] >= report['acknowledged'], f'all are counted: {report}')
        if restart:
            cluster.down()
            cluster.up()
            check_nothing_lost(cluster, uploaders)
            wait_sealed(cluster)
            wait_until(lambda: settled_needles(cluster) == report['needles'],
                       lambda: f'as many after a restart as {report}: {settled_needles(cluster)}')
        return report


def settled_needles(cluster):
    """Of all dsps: neither what was in flight nor anything else comes or goes later."""
    files = cluster.status()['files']
    check_equal(files['lost'], 0, 'files lost')
    return files['live'] + files['deleted']


def check_stopped(report):
    for role in ('secondary', 'primary'):
        spans = report[role]
        check(spans['at_once'] <= 3, f'p99 of uploads at once, {role} stopped: {spans}')
        check(spans['later'] <= max(0.3, 3 * report['before']), f'p99 later, {role}: {report}')


def test_a_stopped_secondary_or_primary_fails_no_upload():
    """SIGSTOP: p99 of uploads <= 3 s at once, normal after; all that was acknowledged is there."""
    check_stopped(stopped_dsps(threads=8, seconds=5.5))


# --- damage --------------------------------------------------------------------------------------
def block_files(dsp):
    return sorted(glob.glob(os.path.join(dsp['data'], 'blk-*')))


def flip_in(path, body):
    """Changes one byte of the image in the file; False if it isn't there."""
    with open(path, 'r+b') as file:
        at = file.read().find(body)
        if at < 0:
            return False
        file.seek(at + len(body) // 2)
        byte = file.read(1)[0]
        file.seek(at + len(body) // 2)
        file.write(bytes([byte ^ 0x10]))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def rot(count):
    """Bytes flipped in one replica of every image; each is read 3 times and found right."""
    with three_machines() as cluster:
        cluster.up()
        files = fill(cluster, count // 2)
        other = cluster.process('dsp-1-1')
        cluster.kill(other)  # what was open is closed and sealed; the rest goes to open blocks
        wait_until(lambda: restarted(cluster, other) and state_of(cluster, other) == 'up',
                   'it is back')
        wait_sealed(cluster)
        files |= fill(cluster, count - count // 2)
        victim = cluster.process('dsp-2-1')
        bad = {file_id for file_id, body in files.items()
               if any(flip_in(path, body) for path in block_files(victim))}
        check(len(bad) > count // 2, f'{len(bad)} of {count} images have a replica there')
        check_reads(cluster, files, times=3)
        by_chance = measured(cluster, victim, 'needles_corrupt_total')
        folder = os.path.join(cluster.dir, 'got')
        os.mkdir(folder)
        done = cluster.hayloft('get', '--dsp', victim['address'], '--timeout-ms', 1000, '-o',
                               folder, *sorted(bad), wanted=None)
        check_equal(len(re.findall(': corrupt: ', done.stderr)), len(bad),
                    f'damage told by the bad replica itself: {done.stderr[:500]}')
        counted = measured(cluster, victim, 'needles_corrupt_total')
        check(counted - by_chance >= len(bad), f'{counted} counted, {by_chance} by chance')
        wait_until(lambda: cluster.status()['needles_corrupt'] >= counted, 'status tells it', 5)
        check_reads(cluster, files)
        return {'images': count, 'flipped': len(bad), 'met_by_reads': by_chance,
                'counted': counted}


def test_f25_flipped_bytes_are_served_from_another_replica_and_counted():
    """Each image is read 3 times and right; metric and status count the bad needles."""
    print(rot(40))


def test_f19_eio_on_reads_is_served_from_another_replica():
    """EIO from every read of one dsp: no reader sees it, and the disk is not given up for it."""
    with three_machines() as cluster:
        cluster.up()
        files = fill(cluster, 40)
        victim = cluster.process('dsp-1-1')
        trace = os.path.join(cluster.dir, 'trace')
        failed = measured(cluster, victim, 'reads_failed_total')
        with Strace([victim['pid']], trace, '-e', f'trace={READS}', '-e',
                    f'inject={READS}:error=EIO'):
            check_reads(cluster, files, times=3)
        with open(trace, encoding='utf-8', errors='replace') as file:
            check('INJECTED' in file.read(), 'the fault happened')
        check(measured(cluster, victim, 'reads_failed_total') > failed, 'it counts them')
        check(alive(victim['pid']), 'the dsp lives')
        for file_id, body in files.items():
            got = cluster.hayloft('get', '--dsp', victim['address'], file_id, text=False).stdout
            check(got == body, f'{file_id} from it afterwards')


def spoil(path, how):
    if how == 'deleted':
        os.remove(path)
        return
    size = os.path.getsize(path)
    with open(path, 'r+b') as file:
        if how == 'extended':
            file.seek(0, os.SEEK_END)
            file.write(random_bytes(100_000))
            return
        data = file.read()
        used = len(data.rstrip(b'\0'))
        file.truncate(used // 2)
    check(os.path.getsize(path) < size, 'it is shorter')


def test_f30_block_files_that_were_deleted_cut_or_extended_while_their_dsp_was_down():
    """All is read right at once; what was cut off is fetched, what was appended is not believed."""
    with three_machines(sets=SMALL_BLOCKS) as cluster:
        cluster.up()
        files = fill(cluster, 120, size=120_000)
        blocks = {block_of(file_id) for file_id in files}
        for process in (cluster.process('dataserver-3'), cluster.process('dsp-3-1')):
            cluster.kill(process)
        victim = cluster.process('dsp-3-1')
        wait_until(lambda: not alive(victim['pid']), 'it is down')
        used = {os.path.basename(path)[-10:]: path for path in block_files(victim)}
        paths = [used[block.hex()] for block in sorted(blocks) if block.hex() in used]
        check(len(paths) >= 3, f'its files: {used}, blocks {blocks}')
        ways = ['deleted', 'cut'] + ['extended'] * (len(paths) - 3) + ['cut']  # the last is open
        for path, how in zip(paths, ways):
            spoil(path, how)
        cluster.up()
        check_reads(cluster, files)
        deleted = {bytes.fromhex(path[-10:]) for path, how in zip(paths, ways) if how == 'deleted'}
        wait_until(lambda: fetched(cluster, victim, files, deleted),
                   'the replica has again what was cut off', 30)
        check_reads(cluster, files)
        # Counted as of the last heartbeat, which may tell of the time before it was fetched.
        wait_until(lambda: cluster.status()['files']['lost'] == 0,
                   lambda: f'no file is lost: {cluster.status()["files"]}', 10)


def fetched(cluster, dsp, files, without):
    """The dsp itself gives every file of its blocks, but for those of `without`."""
    mine = [file_id for _, file_id in by_replica(cluster, {i: i for i in files})[dsp['address']]]
    return all(cluster.hayloft('get', '--dsp', dsp['address'], file_id, wanted=None,
                               text=False).stdout == files[file_id]
               for file_id in mine if block_of(file_id) not in without)


# --- a slow disk ---------------------------------------------------------------------------------
def slow_disk(seconds, threads=4):
    """One dsp's syncs take 3 s and its reads 0.2 s: uploads move elsewhere, reads are hedged."""
    with three_machines(disks=2) as cluster:
        cluster.up()
        with Uploaders(cluster, os.path.join(cluster.dir, 'up'), threads=threads) as uploaders, \
                HttpReaders(uploaders, threads=3) as readers:
            wait_until(lambda: readers.reads > 300, 'reads')
            victim = busiest(cluster, 'appends_total')
            begun = time.monotonic()
            with Strace([victim['pid']], os.path.join(cluster.dir, 'trace'), '-e',
                        f'trace={SYNCS},{READS}', '-e', f'inject={SYNCS}:delay_enter=3000000',
                        '-e', f'inject={READS}:delay_enter=200000'):
                await_time(begun + seconds)
                ended = time.monotonic()
        with open(os.path.join(cluster.dir, 'trace'), encoding='utf-8', errors='replace') as file:
            text = file.read()
        for calls in (SYNCS, READS):
            check(re.search(f'({calls.replace(",", "|")}).*\\(DELAYED\\)', text), f'slow {calls}')
        check_equal(readers.failed[:3], [], 'reads that failed')
        check_equal((uploaders.refused, uploaders.broken), (0, 0), 'uploads that failed')
        late = begun + seconds / 2
        report = {'reads': readers.reads, 'uploads': len(uploaders.took)}
        for what, took in (('read', readers.took), ('upload', uploaders.took)):
            for span, first, last in (('before', 0, begun), ('at_once', begun, late),
                                      ('later', late, ended)):
                in_span = [s for at, s in took if first <= at < last]
                report[f'{what}_p99_{span}'] = round(p99(in_span), 3)
            report[what + '_slowest'] = round(max(s for _, s in took), 3)
        check_nothing_lost(cluster, uploaders)
        return report


def test_f40_a_slow_disk_slows_neither_reads_nor_uploads():
    """F40: strace delays its syncs and reads: after some seconds others do its work."""
    check_slow_disk(slow_disk(8))


def check_slow_disk(report):
    print(report)
    check(report['read_p99_later'] <= max(0.2, 2 * report['read_p99_before']), f'reads: {report}')
    check(report['upload_p99_at_once'] <= 5, f'uploads at once: {report}')
    check(report['upload_p99_later'] <= 1, f'uploads later: {report}')


# --- restarts, and all at once -------------------------------------------------------------------
def test_f60_a_dsp_restarted_faster_than_suspected_gives_no_sequence_twice():
    """kill -9 and at once a new process, again and again, under load: its blocks are closed."""
    with three_machines() as cluster:
        cluster.up()
        states = set()
        with Uploaders(cluster, os.path.join(cluster.dir, 'up')) as uploaders:
            for i in range(4):
                victim = cluster.process(f'dsp-{i % 3 + 1}-1')
                before = uploaders.acknowledged()
                cluster.kill(victim)
                wait_until(lambda v=victim: restarted(cluster, v), 'the next process')
                states.add(state_of(cluster, victim))
                wait_until(lambda b=before: uploaders.acknowledged() > b + 30, 'uploads go on')
        check('suspect' not in states, f'it was faster than suspicion: {states}')
        # The last one's uploads may have gone to others before it spoke to the nameserver.
        wait_until(lambda: cluster.log('nameserver-1').count(' dsp_registered ') >= 3 + 4,
                   'the nameserver saw each process')
        check_nothing_lost(cluster, uploaders)
        named = [base64.urlsafe_b64decode(file_id + 'AA')[:8]
                 for file_id in [*uploaders.stored.values(), *uploaders.deleted.values()]]
        check_equal(len(set(named)), len(named), 'sequences of a block given once')
        wait_sealed(cluster)


def queues(seconds):
    """256 uploaders, small queues: each dsp leads blocks of which the others are secondaries."""
    with three_machines(sets=['dsp.append_queue_bytes=1048576', *SMALL_BLOCKS]) as cluster:
        cluster.up()
        done = cluster.hayloft('bench', '--json', '--concurrency', 256, '--seconds', seconds)
        for dsp in cluster.processes('dsp'):
            for name in ('appends_total', 'replica_commits_total'):
                check(measured(cluster, dsp, name) > 0, f'{dsp["name"]} has {name}')
            check_equal(measured(cluster, dsp, 'append_queue_bytes'), 0, 'what still waits')
        cluster.upload(random_bytes(1000))
        return json.loads(done.stdout)


def test_f66_every_dsp_waits_for_every_other_and_none_for_ever():
    """256 uploads at a time end, each in time."""
    report = queues(3)['uploads']
    print(report)
    check_equal(report['errors'], 0, 'uploads that failed')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
