#!/usr/bin/env python3
"""Two nameservers that are stopped and started: one after the other, both, without their folders.

What was acknowledged is there again, whoever comes first and whatever was lost.
"""

import os
import shutil
import signal
import subprocess
import threading
import time

from copies_test import SMALL_BLOCKS
from directory_test import told as directory_told
from disk_test import cluster_id
from harness import BIN, Cluster, alive, check, check_equal, main, metric, run, wait_until
from load import block_of, measured
from networks import arguments_of
from pair_test import (Load, active_of, asked, both_in_sync, is_active, known_to_gateway, other_of,
                       takeover_s, wait_both)

READY_S = 60.0
# Of one that others went on without.
OUTDATED = ('it is not in the in-sync set', 'its log is too short')


def whole(cluster):
    """Everything serves: the next process may be stopped."""
    dsps = cluster.status()['dsps']
    ready = [process for role in ('gateway', 'dsp', 'directory')
             for process in cluster.processes(role)]
    return both_in_sync(cluster) and all(dsp['state'] == 'up' for dsp in dsps) and \
        all(cluster.request('GET', '/readyz', address=each['http'])[0] == 200
            for each in ready) and \
        sum(directory_told(cluster, each, 'active') == 1
            for each in cluster.processes('directory')) == 1 and \
        all(measured(cluster, dsp, 'blocks_not_serving') == 0
            for dsp in cluster.processes('dsp'))


def restart(cluster, process):
    """In order, by SIGTERM. What no dataserver starts again, `cluster up` does."""
    cluster.kill(process, signal.SIGTERM)
    wait_until(lambda: not alive(process['pid']), f'{process["name"]} ended', 20)
    if process['role'] == 'dsp':
        wait_until(lambda: any(alive(each['pid']) for each in cluster.processes('dsp')
                               if each['name'] == process['name']), 'it is started again')
    cluster.up()


def test_every_process_is_restarted_under_load():
    """One after the other: no read fails and no upload is refused, after retries in the gateway."""
    with Cluster(dataservers=3, disks=1, copies=2, gateways=2, coordinator='etcd',
                 sets=['gateway.drain_delay_ms=1000']) as cluster:
        cluster.up()
        order = sorted(cluster.processes(), key=lambda each: each['role'])
        with Load(cluster) as load:
            for each in order:
                wait_until(lambda: whole(cluster), f'all is well before {each["name"]}')
                restart(cluster, cluster.process(each['name']))
            wait_until(lambda: whole(cluster), 'all is well')
        check_equal(sorted({each['role'] for each in order}),
                    ['dataserver', 'directory', 'dsp', 'etcd', 'gateway', 'nameserver'], 'roles')
        print(f'{len(order)} processes restarted: {len(load.uploaders.took)} uploads, '
              f'{load.readers.reads} reads, {load.readers.repeated} repeated, no upload for '
              f'{load.uploaders.longest_gap_s:.2f} s at most; refused: {load.uploaders.refusals}')
        check_equal(load.uploaders.broken, 0, 'uploads without an answer')
        check_equal(load.uploaders.refusals, [], 'refused uploads')


class ByHand:
    """The nameservers of a cluster, ended and started by the test, each with its own command."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.commands = {each['name']: arguments_of(each)
                         for each in cluster.processes('nameserver')}
        self.started = {}

    def end(self, process):
        if process['name'] not in self.started:
            return self.cluster.kill(process)
        own = self.started.pop(process['name'])
        own.kill()
        return own.wait()

    def start(self, process):
        self.started[process['name']] = subprocess.Popen(
            self.commands[process['name']], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started.values():
            process.kill()
            process.wait()


def why_not_active(cluster, process):
    """What it says of its role, once it has looked."""
    if asked(cluster, process) is None:
        return ''
    told = cluster.request('GET', '/readyz', address=process['http'])[2].decode()
    return told.partition('not active: ')[2].strip()


def both_die(cluster, hands, first, starts):
    """`first` of them ("active", "standby" or "both") dies first, `starts` is started first.

    Returns (how long until both are in sync, who alone had all, or None).
    """
    wait_both(cluster)
    roles = {'active': active_of(cluster)}
    roles['standby'] = other_of(cluster, roles['active'])
    other = {'active': 'standby', 'standby': 'active'}
    has_all = None
    if first != 'both':
        hands.end(roles[first])
        has_all = roles[other[first]]
        if first == 'active':
            takeover_s(cluster, has_all)
        wait_until(lambda: metric(asked(cluster, has_all), 'hayloft_nameserver_in_sync') == 0,
                   'it is alone', 5)
    body = os.urandom(3_000)
    file_id = cluster.upload(body)['id']
    known_to_gateway(cluster, file_id, body)
    for each in roles.values():
        hands.end(each)
    check(cluster.download(file_id) == body, 'read without a nameserver')
    begun = time.monotonic()
    hands.start(roles[starts])
    if starts == first:  # it may not win: the other one went on without it
        wait_until(lambda: why_not_active(cluster, roles[starts]) in OUTDATED, 'it waits')
    else:
        wait_until(lambda: is_active(cluster, roles[starts]), 'the first one is active')
    hands.start(roles[other[starts]])
    wait_both(cluster)
    took = time.monotonic() - begun
    check(cluster.download(file_id) == body, 'read afterwards')
    return took, has_all


def test_f10_f49_f61_both_die_and_come_back_in_any_order():
    """Who has all that was acknowledged is active, whoever died first and whoever comes first."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        with ByHand(cluster) as hands:
            for first, starts in (('standby', 'standby'), ('standby', 'active'),
                                  ('active', 'active'), ('active', 'standby'), ('both', 'standby')):
                took, has_all = both_die(cluster, hands, first, starts)
                print(f'{first} died first, {starts} started first: ready after {took:.2f} s')
                check(took <= READY_S, f'ready after {took:.1f} s')
                check(has_all is None or is_active(cluster, has_all), 'who has all is active')
        cluster.up()
        wait_both(cluster)
        cluster.upload(os.urandom(1_000))


def lose(cluster, process):
    cluster.kill(process)
    shutil.rmtree(process['data'])


def test_f54_f61_a_lost_folder_is_made_anew_from_the_other():
    """`up` asks before it does; the empty one never wins. Both are lost: from what dsps report."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        body = os.urandom(5_000)
        file_id = cluster.upload(body)['id']
        for name in ('nameserver-1', 'nameserver-2'):
            wait_both(cluster)
            before = cluster.status()['blocks']['total']
            lose(cluster, cluster.process(name))
            done = cluster.up(wanted=1)
            check('--rebuild' in done.stderr, f'the way out is named: {done.stderr!r}')
            begun = time.monotonic()
            cluster.up('--rebuild')
            wait_both(cluster)
            print(f'{name} from the other one: {time.monotonic() - begun:.2f} s')
            check(cluster.status()['blocks']['total'] >= before, 'blocks are known')
            check(cluster.download(file_id) == body, 'read')
        for each in cluster.processes('nameserver'):
            lose(cluster, each)
        begun = time.monotonic()
        cluster.up('--rebuild')
        wait_both(cluster)
        print(f'both from reports: {time.monotonic() - begun:.2f} s')
        check(cluster.download(file_id) == body, 'read after a rebuild')
        cluster.upload(body)


def test_f61_a_lost_folder_and_one_that_has_followed_nobody_yet():
    """`up --rebuild` takes neither for a store, whichever is which: from what dsps report."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2) as cluster:
        cluster.up()
        body = os.urandom(5_000)
        file_id = cluster.upload(body)['id']
        for lost, joined in (('nameserver-1', 'nameserver-2'), ('nameserver-2', 'nameserver-1')):
            wait_both(cluster)
            for name in (lost, joined):
                lose(cluster, cluster.process(name))
            folder = cluster.process(joined)['data']
            run(f'{BIN}/hayloft-nameserver', '--init', '--join', f'--data={folder}',
                f'--cluster-id={cluster_id(cluster)}')
            run(f'{BIN}/hayloft-nameserver', '--check-store', f'--data={folder}', wanted=1)
            cluster.up('--rebuild')
            wait_both(cluster)
            check(cluster.download(file_id) == body, f'read, {lost} was lost')
            wait_until(lambda: cluster.request('POST', '/v1/files', body)[0] == 201, 'an upload')


class Stored:
    """Files of a cluster, some of them deleted, and what must be true of them for ever."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.files, self.deleted = {}, []

    def add(self, count):
        for i in range(count):
            body = os.urandom(200_000 + i)
            told = self.cluster.upload(body)
            check(told['id'] not in self.files and told['id'] not in self.deleted,
                  f'{told["id"]} is given twice')
            if i % 5 == 0:
                status, _, _ = self.cluster.request('DELETE', '/v1/files/' + told['id'], headers={
                    'Hayloft-Delete-Token': told['delete_token']})
                check_equal(status, 204, 'DELETE')
                self.deleted.append(told['id'])
            else:
                self.files[told['id']] = body

    def last_block(self):
        return max(int.from_bytes(block_of(each), 'big') for each in [*self.files, *self.deleted])

    def all_is_there(self):
        return all(self.cluster.request('GET', '/' + each)[2] == body
                   for each, body in self.files.items()) and \
            all(self.cluster.request('GET', '/' + each)[0] == 410 for each in self.deleted)


def await_renewal(cluster):
    """Until the coordinator's record tells of all that has been synced so far."""
    for _ in range(2):  # the first one may have been on its way
        known = lease_record(cluster)
        wait_until(lambda before=known: lease_record(cluster) != before, 'it is renewed', 10)


def lease_record(cluster):
    with open(os.path.join(cluster.dir, 'coordinator', 'lease'), 'rb') as file:
        return file.read()


def back_up(cluster, folder):
    """As docs/operating.md says: the standby's folder, while it is stopped."""
    wait_both(cluster)
    standby = other_of(cluster, active_of(cluster))
    cluster.kill(standby, signal.SIGTERM)
    wait_until(lambda: not alive(standby['pid']), 'it ended')
    shutil.copytree(standby['data'], folder)
    cluster.up()
    wait_both(cluster)


def test_f48_f54_both_nameservers_are_restored_from_an_old_backup():
    """It doesn't win by itself. With an operator's word nothing is lost, no id is given twice."""
    with Cluster(directory_shards=0, dataservers=3, disks=1, copies=2,
                 sets=SMALL_BLOCKS) as cluster:
        cluster.up()
        stored = Stored(cluster)
        stored.add(30)
        backup = os.path.join(cluster.dir, 'backup')
        back_up(cluster, backup)
        stored.add(60)  # of which the backup does not know
        await_renewal(cluster)
        last_block = stored.last_block()
        for each in cluster.processes('nameserver'):
            lose(cluster, each)
        begun = time.monotonic()
        restored = cluster.process('nameserver-1')
        shutil.copytree(backup, restored['data'])
        up = threading.Thread(target=cluster.up, args=['--rebuild'])  # waits for one to be active
        up.start()
        wait_until(lambda: why_not_active(cluster, restored) in OUTDATED,
                   lambda: f'it waits: "{why_not_active(cluster, restored)}"')
        cluster.hayloft('force-promote', restored['address'], '--accept-loss', '--yes')
        up.join()
        wait_both(cluster)
        wait_until(stored.all_is_there, 'all is read, what was deleted stays so')
        stored.add(1)
        took = time.monotonic() - begun
        print(f'restored from a backup in {took:.2f} s')
        check(took <= READY_S, f'in {took:.1f} s')
        # Blocks that are open still go on; the next ones are far above all that were ever given.
        wait_until(lambda: stored.add(10) or stored.last_block() >= last_block + (1 << 20),
                   lambda: f'ids go on far above {last_block}: {stored.last_block()}')


def test_f28_f54_leveldb_of_a_dsp_is_lost_or_replaced_by_an_old_backup():
    """It is a fast start and no more: all is read, and no deleted file is back."""
    with Cluster(directory_shards=0, dataservers=1, disks=1, sets=SMALL_BLOCKS) as cluster:
        cluster.up()
        stored = Stored(cluster)
        stored.add(40)
        leveldb = os.path.join(cluster.process('dsp-1-1')['data'], 'leveldb')
        backup = os.path.join(cluster.dir, 'backup')
        cluster.down()
        shutil.copytree(leveldb, backup)
        cluster.up()
        stored.add(40)
        for what in ('lost', 'old'):
            cluster.down()
            shutil.rmtree(leveldb)
            if what == 'old':
                shutil.copytree(backup, leveldb)
            begun = time.monotonic()
            cluster.up()
            wait_until(stored.all_is_there, 'all is read, what was deleted stays so')
            print(f'LevelDB of a dsp {what}: {time.monotonic() - begun:.2f} s')
            stored.add(5)


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
