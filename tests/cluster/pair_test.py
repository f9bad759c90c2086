#!/usr/bin/env python3
"""Two nameservers: one is active, the other takes over. Under load, with both coordinators.

No read fails, no acknowledged upload is lost, whoever dies or hangs.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import statistics
import threading
import time

from copies_test import SMALL_BLOCKS
from disk_test import SYNCS, check_no_second_sync, mounted
from harness import (BIN, Cluster, alive, check, check_equal, main, metric, run, wait_until)
from load import (ERRORS, HttpReaders, Uploaders, check_nothing_lost, stale_commands,
                  wait_promised)
from straces import Strace

CRASH_S = {'file': 1.0, 'etcd': 6.0}  # until another serves
STOP_S = 6.0


def asked(cluster, process):
    """/metrics of a nameserver as text; None if it doesn't answer now."""
    try:
        status, _, body = cluster.request('GET', '/metrics', address=process['http'], timeout=0.5)
    except ERRORS:
        return None
    return body.decode() if status == 200 else None


def is_active(cluster, process):
    text = asked(cluster, process)
    return text is not None and metric(text, 'hayloft_nameserver_active') == 1


def active_of(cluster):
    """The process that answers; None if there is none."""
    found = [each for each in cluster.processes('nameserver') if is_active(cluster, each)]
    check(len(found) < 2, lambda: f'two answer: {found}')
    return found[0] if found else None


def other_of(cluster, process):
    return next(each for each in cluster.processes('nameserver') if each['name'] != process['name'])


def both_in_sync(cluster):
    told = [asked(cluster, each) for each in cluster.processes('nameserver')]
    return len(told) == 2 and all(text and metric(text, 'hayloft_nameserver_in_sync') == 1
                                  for text in told) and active_of(cluster) is not None


def wait_both(cluster):
    wait_until(lambda: both_in_sync(cluster), 'both nameservers are in sync', 40)


def takeover_s(cluster, standby):
    """How long from now on until the standby is active."""
    begun = time.monotonic()
    wait_until(lambda: is_active(cluster, standby), f'{standby["name"]} is active', 30)
    return time.monotonic() - begun


def epoch(cluster, process):
    return metric(asked(cluster, process), 'hayloft_nameserver_epoch')


def known_to_gateway(cluster, file_id, body):
    """Each of its loops has read it once, and knows where it is from then on."""
    for _ in range(16):
        check(cluster.download(file_id) == body, 'it is read')


class Load:
    """Uploads and reads of a cluster until the end of a `with`, which judges them."""

    def __init__(self, cluster):
        self.cluster = cluster
        gateways = [each['http'] for each in cluster.processes('gateway')]
        self.uploaders = Uploaders(cluster, os.path.join(cluster.dir, 'up'), threads=3,
                                   gateways=gateways)
        self.readers = HttpReaders(self.uploaders, threads=2)

    def __enter__(self):
        self.uploaders.__enter__()
        self.readers.__enter__()
        wait_until(lambda: self.uploaders.acknowledged() > 20, 'uploads began')
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            before = self.uploaders.acknowledged()
            wait_until(lambda: self.uploaders.acknowledged() > before + 20, 'uploads go on', 30)
        self.readers.__exit__()
        self.uploaders.__exit__()
        if kind is not None:
            return
        check_equal(self.readers.failed[:5], [], f'failed reads of {self.readers.reads}')
        check(self.readers.reads > 50, f'reads: {self.readers.reads}')
        check_nothing_lost(self.cluster, self.uploaders)


def takeovers(coordinator, crashes, stops, stopped_s=0):
    """Kills and stops whoever is active, again and again. The seconds that each took.

    Who was stopped goes on when another is active, and `stopped_s` have passed.
    """
    crash_s, stop_s = [], []
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2,
                 coordinator=coordinator) as cluster:
        cluster.up()
        with Load(cluster):
            for i in range(crashes + stops):
                wait_both(cluster)
                old = active_of(cluster)
                standby = other_of(cluster, old)
                before = epoch(cluster, old)
                crash = i < crashes
                ended = cluster.log(old['name']).count(' node_ends ')
                begun = time.monotonic()
                cluster.kill(old, signal.SIGKILL if crash else signal.SIGSTOP)
                (crash_s if crash else stop_s).append(takeover_s(cluster, standby))
                check(epoch(cluster, standby) > before, 'the epoch rose')
                if crash:
                    cluster.up()
                    continue
                wait_promised(cluster, epoch(cluster, standby))
                wait_until(lambda at=begun: time.monotonic() >= at + stopped_s, 'time passes',
                           stopped_s + 1)
                cluster.kill(old, signal.SIGCONT)
                # It is past its lease: it answers nobody any more, ends, and follows. No dsp would
                # obey what it may still send.
                wait_until(lambda name=old['name'], at=ended:
                           cluster.log(name).count(' node_ends ') > at, 'it ends')
                check_equal(active_of(cluster)['name'], standby['name'], 'still active')
        print(f'{coordinator}: orders of old ones refused: {stale_commands(cluster):.0f}')
    for what, seconds in (('kill -9', crash_s), ('SIGSTOP', stop_s)):
        if seconds:
            print(f'{coordinator}: {what}: another serves after '
                  f'{statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s, '
                  f'of {len(seconds)}')
    return crash_s, stop_s


def check_takeovers(coordinator, crashes=5, stops=5):
    crash_s, stop_s = takeovers(coordinator, crashes, stops)
    check(max(crash_s) <= CRASH_S[coordinator], f'after kill -9: {crash_s}')
    check(max(stop_s) <= STOP_S, f'after SIGSTOP: {stop_s}')


def test_takeover_with_a_lease_file():
    """F08 F33: whoever dies is followed within a second, whoever hangs within six."""
    check_takeovers('file')


def test_takeover_with_etcd():
    """F08 F33: within six seconds, whatever happened."""
    check_takeovers('etcd')


def test_an_ordered_failover_refuses_nothing_for_long():
    """`hayloft failover`: the other one serves at once, and nobody waits for a second."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        with Load(cluster) as load:
            for _ in range(4):
                wait_both(cluster)
                old = active_of(cluster)
                load.uploaders.longest_gap_s = 0.0
                told = json.loads(cluster.hayloft('failover', '--json').stdout)
                check_equal(told['active'], other_of(cluster, old)['address'], 'who is active')
                wait_both(cluster)
                check(load.uploaders.longest_gap_s < 1, f'{load.uploaders.longest_gap_s:.2f} s '
                      'without an acknowledgement')
    with Cluster(directory_shards=0, dataservers=1, disks=1, nameservers=1) as cluster:
        cluster.up()
        done = cluster.hayloft('failover', wanted=1)
        check('no standby is in sync' in done.stderr, done.stderr)


def test_a_dead_standby_delays_nobody():
    """F09: the active goes on alone within two seconds; who comes back catches up."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        with Load(cluster) as load:
            for number in (signal.SIGKILL, signal.SIGSTOP):
                wait_both(cluster)
                active = active_of(cluster)
                standby = other_of(cluster, active)
                cluster.kill(standby, number)
                wait_until(lambda name=active['name']:
                           metric(asked(cluster, cluster.process(name)),
                                  'hayloft_nameserver_in_sync') == 0, 'it is alone', 5)
                before = load.uploaders.acknowledged()
                wait_until(lambda at=before: load.uploaders.acknowledged() > at + 20, 'uploads')
                check_equal(active_of(cluster)['name'], active['name'], 'still active')
                cluster.kill(standby, signal.SIGCONT)
                cluster.up()
        wait_both(cluster)


def test_strict_commits_nothing_without_both():
    """Its own log goes on, and reads do, though dsps are in doubt. With both all goes on."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2,
                 sets=['nameserver.strict=true']) as cluster:
        cluster.up()
        with Load(cluster) as load:
            wait_both(cluster)
            active = active_of(cluster)
            cluster.kill(other_of(cluster, active))

            def log(gauge):
                return metric(asked(cluster, active), 'hayloft_nameserver_log_' + gauge)
            wait_until(lambda: log('index') > log('committed') + 1, 'its log goes on', 10)
            committed, index = log('committed'), log('index')
            reads = load.readers.reads
            wait_until(lambda: log('index') > index + 2, 'and on', 10)
            wait_until(lambda: load.readers.reads > reads + 20, 'reads go on', 10)
            check_equal(log('committed'), committed, 'committed without the other one')
            check(is_active(cluster, active), 'it is active')
            cluster.up()
            wait_until(lambda: log('committed') > index + 2, 'committed with both', 10)


def test_force_promote_says_what_may_be_lost():
    """F63: the record of who is active is gone: nobody is active until an operator says so."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        body = os.urandom(5_000)
        file_id = cluster.upload(body)['id']
        known_to_gateway(cluster, file_id, body)
        wait_both(cluster)
        done = cluster.hayloft('force-promote', cluster.process('nameserver-1')['address'],
                               wanted=1)
        check(' is active: nothing was done' in done.stderr, done.stderr)
        for each in cluster.processes('nameserver'):
            cluster.kill(each)
        shutil.rmtree(os.path.join(cluster.dir, 'coordinator'))
        up = threading.Thread(target=cluster.up, kwargs={'wanted': None})  # it waits
        up.start()
        one = wait_until(lambda: next((each for each in cluster.processes('nameserver')
                                       if asked(cluster, each)), None), 'one answers')
        wait_until(lambda: 'record is lost' in
                   cluster.request('GET', '/readyz', address=one['http'])[2].decode(), 'it waits')
        check(cluster.download(file_id) == body, 'read while nobody is active')
        done = cluster.hayloft('force-promote', one['address'], wanted=1)
        check('--accept-loss' in done.stderr, done.stderr)
        check('lost' in done.stdout, done.stdout)
        cluster.hayloft('force-promote', one['address'], '--accept-loss', '--yes')
        up.join()
        wait_both(cluster)
        check(cluster.download(file_id) == body, 'read afterwards')
        cluster.upload(body)


def test_a_cluster_of_one_nameserver_gets_a_second():
    """The record of who is active lay in the only one's folder; `up` finds it there."""
    with Cluster(directory_shards=0, dataservers=1, disks=1) as cluster:
        cluster.up()
        body = os.urandom(5_000)
        file_id = cluster.upload(body)['id']
        cluster.down()
        os.rename(os.path.join(cluster.dir, 'coordinator'),
                  os.path.join(cluster.dir, 'nameserver-1', 'coordinator'))
        cluster.up()
        wait_both(cluster)
        check(cluster.download(file_id) == body, 'read')


@contextlib.contextmanager
def filled(folder):
    """Not a byte is left on the file system of the folder."""
    path = os.path.join(folder, 'ballast')
    with open(path, 'wb', buffering=0) as file:
        for piece in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(piece))
    check_equal(shutil.disk_usage(folder).free, 0, 'bytes free')
    try:
        yield
    finally:
        os.remove(path)


def steps_down_s(cluster, load, old, old_epoch):
    """The disk under the log of the active is at fault: the other one serves. After so long."""
    standby = other_of(cluster, old)
    took = takeover_s(cluster, standby)
    check(epoch(cluster, standby) > old_epoch, 'the epoch rose')
    acknowledged = load.uploaders.acknowledged()
    wait_until(lambda: load.uploaders.acknowledged() > acknowledged + 20, 'uploads go on')
    check(not is_active(cluster, old), 'it does not answer')
    return took


def failing_log(how):
    """fsync of the active's log fails in this way, under load. What it logged, and its trace."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        with Load(cluster) as load:
            wait_both(cluster)
            old = active_of(cluster)
            before, trace = epoch(cluster, old), os.path.join(cluster.dir, 'trace')
            files = [word for path in glob.glob(os.path.join(old['data'], 'leveldb', '*.log'))
                     for word in ('-P', path)]
            with Strace([old['pid']], trace, *files, '-e', f'trace={SYNCS}', '-e',
                        f'inject={SYNCS}:{how}'):
                took = steps_down_s(cluster, load, old, before)
                lives = alive(old['pid'])
            print(f'fsync of the log, {how}: another serves after {took:.2f} s')
            check(took <= STOP_S, f'after {took:.2f} s')
            with open(trace, encoding='utf-8', errors='replace') as file:
                check('sync(' in file.read(), 'there were syncs: the fault happened')
            if 'error' in how:
                check_no_second_sync(trace, old['data'])
            cluster.up()
            wait_both(cluster)
        return lives, cluster.log(old['name'])


def test_f65_the_log_of_the_active_hangs():
    """Its process lives, and is as silent as one that died; then it begins anew and follows."""
    check(failing_log('delay_enter=6000000')[0], 'its process lives')


def test_the_log_of_the_active_cannot_be_synced():
    """EIO: it ends, and tries no sync a second time; started anew, it follows."""
    lives, log = failing_log('error=EIO')
    check(not lives and 'the log cannot be written or read' in log, 'it ends, and says why')


def test_f22_the_disk_of_the_active_is_full():
    """It ends, and does not start on a full disk; with room again it follows, nothing is lost."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2,
                 sets=SMALL_BLOCKS) as cluster:
        folders = [os.path.join(cluster.dir, f'nameserver-{i}') for i in (1, 2)]
        try:
            if not all([mounted(folder, '32m') for folder in folders]):
                print('skipped: mounting is not allowed here')
                return
            fill_the_disk_of_the_active(cluster)
        finally:
            cluster.down(wanted=None)
            for folder in folders:
                run('umount', '-l', folder, wanted=None)


def fill_the_disk_of_the_active(cluster):
    cluster.up()
    with Load(cluster) as load:
        wait_both(cluster)
        old = active_of(cluster)
        before = epoch(cluster, old)
        with filled(old['data']):
            took = steps_down_s(cluster, load, old, before)  # it ends at the next page of its log
            print(f'full disk: another serves after {took:.2f} s')
            wait_until(lambda: not alive(old['pid']), 'it ends')
            done = cluster.up(wanted=1)
            check(old['name'] in done.stderr, f'up says which does not start: {done.stderr!r}')
        cluster.up()
        wait_both(cluster)
        fill_both_disks(cluster)


def fill_both_disks(cluster):
    """Nobody is active, and what `up` says is why. What was acknowledged is there afterwards."""
    both = cluster.processes('nameserver')
    with contextlib.ExitStack() as full:
        for each in both:
            full.enter_context(filled(each['data']))
        wait_until(lambda: not any(alive(each['pid']) for each in both), 'both end', 40)
        done = cluster.up(wanted=1)
        check('nameserver-' in done.stderr, f'up says which does not start: {done.stderr!r}')
    cluster.up()
    wait_both(cluster)


def test_etcd_dies():
    """F14: writes that need a nameserver stop, reads and grants in hand go on; then all resumes."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2,
                 coordinator='etcd') as cluster:
        cluster.up()
        with Load(cluster):
            wait_both(cluster)
            etcd = cluster.process('etcd-1')
            cluster.kill(etcd)
            wait_until(lambda: active_of(cluster) is None, 'nobody is active', 6)
            cluster.up()
            wait_both(cluster)


def test_a_hook_runs_after_a_promotion():
    """It is told the epoch; a second nameserver that only follows runs none."""
    with Cluster(directory_shards=0, dataservers=1, disks=1) as cluster:
        hook = os.path.join(cluster.dir, 'hook')
        with open(hook, 'w', encoding='utf-8') as file:
            file.write(f'#!/bin/sh\necho "$1" >> {cluster.dir}/promoted\n')
        os.chmod(hook, 0o755)
        cluster.sets += ['--set', f'nameserver.promote_hook={hook}']
        cluster.up()
        promoted = os.path.join(cluster.dir, 'promoted')
        wait_until(lambda: os.path.exists(promoted), 'the hook ran')
        wait_both(cluster)
        cluster.hayloft('failover')

        def epochs():
            with open(promoted, encoding='utf-8') as file:
                return file.read().split()
        wait_until(lambda: epochs() == ['1', '2'], lambda: f'epochs: {epochs()}')


def test_wrong_options_are_said_to_be():
    """Relations between options, one line each."""
    for words, what in ((['--nameservers=127.0.0.1:1,127.0.0.1:2', '--listen=127.0.0.1:3'],
                         'advertise'),
                        (['--nameservers=127.0.0.1:1,127.0.0.1:2,127.0.0.1:3'], 'two at most'),
                        (['--strict'], 'a second one in'), (['--join'], '--init'),
                        (['--etcd=http://127.0.0.1:1', '--coordinator-dir=/tmp'], 'exclude'),
                        (['--nameservers=127.0.0.1:1,127.0.0.1:2', '--listen=127.0.0.1:1'],
                         'need etcd')):
        done = run(f'{BIN}/hayloft-nameserver', '--data=/tmp/none', '--check-config', *words,
                   wanted=None)
        check(done.returncode != 0 and what in done.stderr, f'{words}: {done.stderr!r}')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
