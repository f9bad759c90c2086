#!/usr/bin/env python3
"""kill -9 under load: nothing that was acknowledged is lost (F01 to F05, F08, F10, F60).

    kill_test.py [--seconds N] [--seed N] [--kills N] [test ...]
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time

from harness import BIN, MODE, Cluster, check, check_equal, main, random_bytes, wait_until
from load import (HttpReaders, SdkReader, Uploaders, check_nothing_lost, check_reads,
                  killed_by_signal, wait_sealed)

OPTIONS = argparse.ArgumentParser()
OPTIONS.add_argument('--seconds', type=float, default=12)
OPTIONS.add_argument('--seed', type=int, default=None)
OPTIONS.add_argument('--kills', type=int, default=2, help='at each failpoint')

# Places in a dsp at which a test build kills itself (common/io/failpoint.h), and what each stands
# for: no acknowledgement before the sync, recovery of what was written, nothing half made.
FAILPOINTS = ('dsp_append_received', 'device_write_before', 'device_write_after',
              'device_sync_before', 'device_sync_after', 'dsp_append_before_reply',
              'device_create_after', 'device_rename_before', 'device_rename_after',
              'device_sync_dir_before', 'device_sync_dir_after')
OFTEN_REACHED = ('device_write_before', 'device_write_after', 'device_sync_before',
                 'device_sync_after')


class Killer:
    """Ends a random process each second; what no dataserver restarts, `cluster up` does.

    A machine is a dataserver with all its dsps, at once.
    """

    def __init__(self, cluster, seed, roles):
        self.cluster = cluster
        self.choose = random.Random(seed)
        self.kills = {role: 0 for role in roles}
        self.events = []  # (when, what)
        self.starters = []

    def kill_one(self):
        role = self.choose.choice(sorted(self.kills))
        running = self.cluster.processes('dataserver' if role == 'machine' else role)
        if not running:
            return
        victim = self.choose.choice(running)
        self.cluster.kill(victim)
        if role == 'machine':
            for dsp in self.cluster.processes('dsp'):
                if dsp['parent'] == victim['name']:
                    self.cluster.kill(dsp)
        self.kills[role] += 1
        self.events.append((time.monotonic(), role + ' ' + victim['name']))
        if role != 'dsp':  # one that still waits for the last victim would start nothing more
            self.starters.append(threading.Thread(target=self.cluster.up, kwargs={'wanted': None}))
            self.starters[-1].start()

    def run(self, seconds):
        end = time.monotonic() + seconds
        due = time.monotonic() + 1
        while due < end:
            wait_until(lambda at=due: time.monotonic() >= at, 'a second has passed')
            self.kill_one()
            due += 1
        for starter in self.starters:
            starter.join()

    def before(self, moment, seconds=8):
        """What was killed in the time before the moment."""
        return [f'{moment - at:.1f} s before: {what}' for at, what in self.events
                if 0 <= moment - at < seconds]


def chaos(seconds, seed=None, directory_shards=None):
    """One copy, two machines. Returns what happened, for the report."""
    seed = seed if seed is not None else random.randrange(1 << 30)
    print(f'seed {seed}')
    with Cluster(dataservers=2, disks=2, gateways=2, directory_shards=directory_shards) as cluster:
        cluster.up()
        gateways = [p['http'] for p in cluster.processes('gateway')]
        killer = Killer(cluster, seed, ('dsp', 'dataserver', 'gateway', 'nameserver'))
        with Uploaders(cluster, os.path.join(cluster.dir, 'up'), gateways=gateways,
                       seed=seed) as uploaders:
            killer.run(seconds)
            check_uploads_go_on(cluster, uploaders)
        check_nothing_lost(cluster, uploaders)
        report = report_of(killer, uploaders, seconds, 20)
        print(report)
        return report


def check_uploads_go_on(cluster, uploaders):
    before = uploaders.acknowledged()
    cluster.up()
    wait_until(lambda: uploaders.acknowledged() >= before + 50, 'uploads after the last kill')


def report_of(killer, uploaders, seconds, uploads_per_s):
    report = {'seconds': seconds, 'seed': uploaders.seed, 'kills': killer.kills,
              'acknowledged': uploaders.acknowledged(), 'deleted': len(uploaders.deleted),
              'refused': uploaders.refused, 'no_answer': uploaders.broken,
              'longest_gap_s': round(uploaders.longest_gap_s, 2), 'lost': 0}
    check(sum(killer.kills.values()) >= seconds - 2, f'kills happened: {killer.kills}')
    check(uploaders.acknowledged() > uploads_per_s * seconds, f'uploads happened: {report}')
    return report


def chaos_with_copies(seconds, seed=None, directory_shards=None):
    """Three copies, three machines: uploads and reads, by HTTP and by the SDK, of which none fails.

    Returns what happened, for the report.
    """
    seed = seed if seed is not None else random.randrange(1 << 30)
    print(f'seed {seed}')
    with Cluster(dataservers=3, disks=2, gateways=2, copies=3,
                 directory_shards=directory_shards) as cluster:
        cluster.up()
        gateways = [p['http'] for p in cluster.processes('gateway')]
        killer = Killer(cluster, seed, ('dsp', 'machine', 'gateway', 'nameserver'))
        with Uploaders(cluster, os.path.join(cluster.dir, 'up'), gateways=gateways,
                       seed=seed) as uploaders:
            with HttpReaders(uploaders) as readers, SdkReader(cluster, uploaders) as sdk:
                killer.run(seconds)
            check_uploads_go_on(cluster, uploaders)
        report = report_of(killer, uploaders, seconds, 7)
        report['http_reads'], report['sdk_reads'] = check_reads(readers, sdk, 20 * seconds)
        report['slowest_read_s'] = round(max(took for _, took in readers.took), 2)
        report['slowest_sdk_read_s'] = sdk.report['slowest_ms'] / 1000
        report['before_the_gaps_end'] = killer.before(uploaders.gap_ended)
        print(report)
        check_nothing_lost(cluster, uploaders)
        wait_sealed(cluster)
        return report


def test_random_kills_under_load_lose_nothing():
    """A dsp, dataserver, gateway or nameserver each second."""
    chaos(ARGUMENTS.seconds, ARGUMENTS.seed)


def test_f04_f05_kills_with_three_copies_leave_each_replica_whole():
    """Three copies: no read fails, uploads go on, all is read from each of its replicas."""
    report = chaos_with_copies(ARGUMENTS.seconds, ARGUMENTS.seed)
    if MODE == 'release':
        check(report['longest_gap_s'] <= 5, f'uploads never stop for more than 5 s: {report}')


def test_two_of_three_machines_down():
    """Uploads get 503, reads go on, all resumes by itself; with one down, two copies will do."""
    with Cluster(dataservers=3, disks=1, copies=3) as cluster:
        cluster.up()
        wait_until(lambda: cluster.status()['blocks']['under_replicated'] == 0, 'whole sets')
        stored = {}
        for i in range(20):
            body = random_bytes(3000 + i, i)
            stored[cluster.upload(body)['id']] = body
        machines = [(cluster.process(f'dataserver-{i}'), cluster.process(f'dsp-{i}-1'))
                    for i in (1, 2, 3)]
        for process in machines[0]:
            cluster.kill(process)
        wait_until(lambda: cluster.request('POST', '/v1/files', b'two copies')[0] == 201,
                   'an upload with one machine down')
        wait_until(lambda: cluster.status()['blocks']['under_replicated'] > 0, 'status tells it')
        for i in range(20):
            body = random_bytes(2000 + i, 100 + i)
            stored[cluster.upload(body)['id']] = body
        for process in machines[1]:
            cluster.kill(process)
        wait_until(lambda: cluster.request('POST', '/v1/files', b'one copy')[0] == 503,
                   'uploads are refused with two machines down')
        status, headers, _ = cluster.request('POST', '/v1/files', b'one copy')
        check(status == 503 and 'Retry-After' in headers, f'{status} {dict(headers)}')
        for file_id, body in stored.items():
            check(cluster.download(file_id) == body, f'{file_id} from the one that is left')
        check_equal(cluster.request('POST', '/v1/files', b'one copy')[0], 503, 'still no uploads')
        cluster.up()
        wait_until(lambda: cluster.request('POST', '/v1/files', b'three copies')[0] == 201,
                   'uploads go on')
        for file_id, body in stored.items():
            check(cluster.download(file_id) == body, f'{file_id} from all')


def restart_dataservers(cluster, environment):
    """Ends dataservers and dsps, and starts them in another environment."""
    for role in ('dataserver', 'dsp'):
        for process in cluster.processes(role):
            cluster.kill(process)
    cluster.environment = dict(os.environ, **environment)
    return subprocess.Popen([f'{BIN}/hayloft', 'cluster', 'up', '--dir', cluster.dir],
                            env=cluster.environment, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def failpoint_kills(names, kills_each, copies=1):
    """Each named place kills its dsp again and again under load. Returns the kills."""
    total = 0
    with Cluster(dataservers=copies, disks=2, copies=copies) as cluster:
        cluster.up()
        with Uploaders(cluster, os.path.join(cluster.dir, 'up'), threads=3) as uploaders:
            for name in names:
                often = name.startswith('dsp_') or name in OFTEN_REACHED
                count = random.randrange(1, 40) if often else 2
                before = killed_by_signal(cluster)
                with restart_dataservers(cluster, {'HAYLOFT_FAILPOINT': f'{name}:{count}'}) as up:
                    wait_until(lambda wanted=before + kills_each:
                               killed_by_signal(cluster) >= wanted, f'{name}:{count} kills')
                    up.kill()
                total += killed_by_signal(cluster) - before
            restart_dataservers(cluster, {}).wait()
            acknowledged = uploaders.acknowledged()
            wait_until(lambda: uploaders.acknowledged() >= acknowledged + 20, 'uploads go on')
        check_nothing_lost(cluster, uploaders)
        print({'kills': total, 'acknowledged': uploaders.acknowledged()})
    return total


def test_f01_f02_f03_f05_kills_at_failpoints_lose_nothing():
    """Before and after write and sync, before the answer; test builds only."""
    if MODE == 'release':
        print('skipped: a release build has no failpoints')
        return
    failpoint_kills(FAILPOINTS, ARGUMENTS.kills)


def test_f04_kills_between_a_replicas_sync_and_its_answer():
    """Three copies: what one has synced and nobody acknowledged harms nothing; test builds only."""
    if MODE == 'release':
        print('skipped: a release build has no failpoints')
        return
    failpoint_kills(('device_sync_after', 'dsp_append_before_reply'), ARGUMENTS.kills, copies=3)


if __name__ == '__main__':
    ARGUMENTS, REST = OPTIONS.parse_known_args()
    sys.argv[1:] = REST
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
