#!/usr/bin/env python3
"""A pair of nameservers and an etcd of three, real ones, while the network between them fails.

In each of these uploads and reads go on meanwhile: no read fails, no acknowledged upload is lost,
never two nameservers are active, and at the end one is, with the other one in sync.
"""

import concurrent.futures
import contextlib
import json
import os
import random
import signal
import subprocess
import time

from copies_test import SMALL_BLOCKS
from harness import BIN, check, check_equal, main, wait_until
from load import (HttpReaders, Uploaders, check_nothing_lost, measured, stale_commands,
                  wait_promised)
from networks import both_ways, enter_own_network
from pairs import DSPS, ETCDS, NAMESERVERS, PairCluster, Watch

LEASE_S = 3.0
# So many bytes that uploads need no new block for long.
LARGE_BLOCKS = ['dsp.block_bytes=134217728', 'dsp.pool_files=0',
                'gateway.upload_bytes_max=1000000']
TINY_BLOCKS = ['dsp.block_bytes=1048576', 'gateway.upload_bytes_max=300000']


class Load:
    """A whole cluster under load; what a test does inside may not harm it."""

    def __init__(self, cluster, deletes):
        self.cluster = cluster
        self.uploaders = Uploaders(cluster, os.path.join(cluster.dir, 'up'), threads=2,
                                   deletes=deletes)
        self.readers = HttpReaders(self.uploaders)
        self.watch = Watch(cluster)
        self.told = {}  # for the report

    def await_uploads(self, count):
        before = self.uploaders.acknowledged()
        wait_until(lambda: self.uploaders.acknowledged() >= before + count,
                   f'{count} more uploads', 20)

    def await_reads(self, count):
        before = self.readers.reads
        wait_until(lambda: self.readers.reads >= before + count, f'{count} more reads', 20)

    def pair(self):
        """(the active one, the other one)."""
        active = self.cluster.active()
        check(active, 'a nameserver is active')
        return active, sum(NAMESERVERS) - active

    def check_goes_on(self):
        self.await_uploads(20)
        self.await_reads(20)

    def check_no_gap(self):
        gap = self.uploaders.longest_gap_s
        check(gap <= 5, f'uploads never stop for more than 5 s, but for {gap:.1f} s')

    def check_harmless(self, unavailable=False):
        """`unavailable`: what could not be reached may have been refused, or waited for in vain."""
        told = self.told | {
            'uploads': len(self.uploaders.took), 'refused': self.uploaders.refused,
            'no_answer': self.uploaders.broken, 'reads': self.readers.reads,
            'longest_gap_s': round(self.uploaders.longest_gap_s, 2),
            'slowest_read_s': round(max(took for _, took in self.readers.took), 2)}
        print(json.dumps(told), flush=True)
        allowed = (503, 504, None) if unavailable else ()
        check_equal([each for each in self.readers.failed if each[1] not in allowed][:3], [],
                    'reads that failed')
        check(unavailable or self.uploaders.broken == 0, 'uploads without an answer')
        self.watch.check_never_two()
        check_nothing_lost(self.cluster, self.uploaders)
        self.cluster.wait_whole()


@contextlib.contextmanager
def pair_under_load(sets=SMALL_BLOCKS, deletes=True, kind=PairCluster, unavailable=False):
    with kind(sets=list(sets)) as cluster:
        cluster.up()
        load = Load(cluster, deletes)
        with load.uploaders, load.readers, load.watch:
            load.await_uploads(30)
            yield cluster, load
            load.check_goes_on()
        load.check_harmless(unavailable)


class Victims:
    """Files that are deleted while that may be refused; until a 204 they are there."""

    def __init__(self, cluster, load, count_of):
        self.cluster, self.load = cluster, load
        self.bodies, self.tokens = {}, {}
        for i in range(count_of):
            body = os.urandom(3_000 + i)
            told = cluster.upload(body)
            self.bodies[told['id']] = body
            self.tokens[told['id']] = told['delete_token']

    def delete(self, file_id):
        status = self.cluster.request('DELETE', '/v1/files/' + file_id, headers={
            'Hayloft-Delete-Token': self.tokens[file_id]})[0]
        if status == 204:
            name = 'victim-' + file_id  # judged with all that the load has deleted
            with open(os.path.join(self.load.uploaders.folder, name), 'wb') as file:
                file.write(self.bodies.pop(file_id))
            with self.load.uploaders.lock:
                self.load.uploaders.deleted[name] = file_id
        return status

    def delete_all(self):
        """The answers. All at once: a gateway tries for 10 s before it gives up."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(self.delete, list(self.bodies)))

    def check_deleted_at_last(self):
        wait_until(lambda: set(self.delete_all()) <= {204} and not self.bodies,
                   'each DELETE is repeated until it is done', 20)


def pause(begun, seconds):
    wait_until(lambda: time.monotonic() >= begun + seconds, 'time passes')


def count(cluster, nameserver, words):
    return cluster.log(f'nameserver-{NAMESERVERS.index(nameserver) + 1}').count(words)


def declare_gone(cluster, machine):
    """A command whose answer has to be in the log; it waits for that."""
    dsp = next(each for each in cluster.status()['dsps'] if each['machine'] == f'machine-{machine}')
    return subprocess.Popen([f'{BIN}/hayloft', 'gone', '--cluster', cluster.nameserver, '--dir',
                             cluster.dir, '--yes', '--timeout-ms', '20000', str(dsp['id'])],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def blocks_made(cluster):
    """By all dsps but that of machine 4."""
    return sum(measured(cluster, dsp, f'blocks_{state}') for dsp in cluster.processes('dsp')
               if not dsp['name'].startswith('dsp-4') for state in ('open', 'closed', 'sealed'))


def nothing_is_committed(cluster, load, active, seconds):
    """While neither the standby nor etcd hears `active`. Returns `gone`, which waits."""
    begun = time.monotonic()
    pause(begun, 0.3)  # what was on its way when the rules began has arrived
    before, made = cluster.gauges(active)['log_committed'], blocks_made(cluster)
    gone = declare_gone(cluster, 4)
    while time.monotonic() < begun + seconds:
        check_equal(cluster.gauges(active)['log_committed'], before, 'committed meanwhile')
        time.sleep(0.05)
    load.told['waiting'] = cluster.gauges(active)['log_index'] - before
    check(load.told['waiting'] > 0, 'the log goes on')
    check_equal(count(cluster, active, ' standby_left '), 0, 'times it went on alone')
    check_equal(blocks_made(cluster), made, 'blocks at the dsps')
    check(gone.poll() is None, lambda: f'`gone` was answered: {gone.communicate()}')
    return gone


def test_f35_nothing_is_acknowledged_before_the_smaller_set_is_committed():
    """F35: packets to the standby and to etcd are lost: the log goes on, nothing is committed.

    Reads of blocks that were never read before wait for the nameserver, and none fails.
    """
    # It stays active meanwhile: a lease that was renewed 4 s before has 8 s left.
    with pair_under_load(SMALL_BLOCKS + ['nameserver.lease_ms=12000']) as (cluster, load):
        active, standby = load.pair()
        epoch = cluster.gauges(active)['epoch']
        cluster.kill_dsp(4)
        wait_until(lambda: [dsp for dsp in cluster.status()['dsps'] if dsp['state'] == 'suspect'],
                   'the killed dsp is suspect', 15)
        with cluster.deaf((active, standby)):
            with cluster.deaf(*both_ways([active], ETCDS)):
                gone = nothing_is_committed(cluster, load, active, seconds=3)
                before = cluster.gauges(active)['log_committed']
            healed = time.monotonic()
            wait_until(lambda: count(cluster, active, ' standby_left ') == 1, 'goes on alone', 5)
            load.told['alone_after_s'] = round(time.monotonic() - healed, 2)
            said = gone.communicate(timeout=20)[0]
            check_equal(gone.returncode, 0, f'exit code of `gone`, which says {said}')
            told = cluster.gauges(active)
            check_equal((told['epoch'], told['in_sync']), (epoch, 0), 'epoch, and it is alone')
            check(told['log_committed'] > before, 'committed goes on')
            load.check_goes_on()
        load.told['in_sync_after_s'] = round(cluster.wait_whole(), 1)
        check_equal(cluster.gauges(active)['epoch'], epoch, 'epoch')


def cut_from_the_standby(cluster, load, pairs):
    """It goes on alone soon, in its epoch, and the other one comes back."""
    active, standby = load.pair()
    epoch = cluster.gauges(active)['epoch']
    begun = time.monotonic()
    with cluster.deaf(*pairs(active, standby)):
        wait_until(lambda: cluster.gauges(active)['in_sync'] == 0, 'it is alone', 3)
        alone_s = time.monotonic() - begun
        load.check_goes_on()
        pause(begun, LEASE_S + 1)
        told = cluster.gauges(active), cluster.gauges(standby)
        check_equal([each['active'] for each in told], [1, 0], f'who is active: {told}')
    back_s = cluster.wait_whole()
    check_equal((cluster.active(), cluster.gauges(active)['epoch']), (active, epoch),
                'the active one and its epoch')
    return {'alone_after_s': round(alone_s, 2), 'in_sync_after_s': round(back_s, 1)}


def test_f35_f38_cut_from_the_standby():
    """F35 F38: both ways; what the active one sends; what the other one sends."""
    with pair_under_load() as (cluster, load):
        for name, pairs in (('both_ways', lambda a, s: both_ways([a], [s])),
                            ('to_the_standby', lambda a, s: [(a, s)]),
                            ('to_the_active', lambda a, s: [(s, a)])):
            load.told[name] = cut_from_the_standby(cluster, load, pairs)


def check_quiet_after(load, nameserver, begun):
    """Rule 5: no answer later than 2/3 of a lease that was renewed before `begun`."""
    last = load.watch.last_active(nameserver) - begun
    check(last <= LEASE_S * 2 / 3 + 0.1, f'it said to be active {last:.2f} s after the cut')
    return round(last, 2)


def test_f36_the_active_cut_from_etcd():
    """F36: it stops answering by 2/3 of its lease, and ends; the other one is active within 6 s."""
    with pair_under_load() as (cluster, load):
        active, standby = load.pair()
        epoch, ended = cluster.gauges(active)['epoch'], count(cluster, active, ' node_ends ')
        with cluster.deaf(*both_ways([active], ETCDS)):
            begun = time.monotonic()
            wait_until(lambda: load.watch.last_active(standby) > begun, 'the other is active', 6)
            load.told['active_after_s'] = round(time.monotonic() - begun, 2)
            load.told['quiet_after_s'] = check_quiet_after(load, active, begun)
            wait_until(lambda: count(cluster, active, ' node_ends ') > ended, 'it ends', 6)
            check(cluster.gauges(standby)['epoch'] > epoch, 'a later epoch')
            load.check_goes_on()
            check_quiet_after(load, active, begun)
        load.told['in_sync_after_s'] = round(cluster.wait_whole(), 1)
        check_equal(cluster.active(), standby, 'the active one')


def test_f32_f33_f42_commands_of_one_that_was_active_are_refused():
    """They are on their way when it is stopped, and arrive when another one is active.

    The network keeps them for so long, and sends them again when it is whole: a stopped process
    has a kernel that is not.
    """
    with pair_under_load(TINY_BLOCKS, deletes=False) as (cluster, load):
        active, standby = load.pair()
        unanswered, ended = (count(cluster, active, words)
                             for words in (' create_block_failed ', ' node_ends '))
        check_equal(stale_commands(cluster), 0, 'orders refused before')
        with cluster.deaf(*[(active, dsp) for dsp in DSPS]):
            # Blocks fill up, and it orders others.
            wait_until(lambda: count(cluster, active, ' create_block_failed ') > unanswered,
                       'an order has no answer', 6)
            cluster.signal(active, signal.SIGSTOP)
            stopped = time.monotonic()
            wait_until(lambda: load.watch.last_active(standby) > stopped, 'the other is active', 6)
            wait_promised(cluster, cluster.gauges(standby)['epoch'])
        wait_until(lambda: stale_commands(cluster) > 0, 'what it had sent arrives, late', 20)
        load.check_goes_on()
        cluster.signal(active, signal.SIGCONT)
        wait_until(lambda: count(cluster, active, ' node_ends ') > ended, 'it ends', 6)
        load.told['in_sync_after_s'] = round(cluster.wait_whole(), 1)
        load.told['orders_refused'] = stale_commands(cluster)
        check_equal(cluster.active(), standby, 'the active one')


def test_f37_the_active_cut_from_half_of_the_dsps():
    """F37: so many fall silent at once that nothing is closed; the standby hears them still."""
    with pair_under_load(deletes=False) as (cluster, load):
        active, _ = load.pair()
        victims = Victims(cluster, load, 10)
        epoch, closed = cluster.gauges(active)['epoch'], count(cluster, active, ' block_closed ')

        def states():
            return sorted(dsp['state'] for dsp in cluster.status()['dsps'])
        begun = time.monotonic()
        with cluster.deaf(*both_ways([active], DSPS[:2])):
            wait_until(lambda: 'suspect' in states(), 'some are suspect', 15)
            pause(begun, 6)
            check_equal(states(), ['suspect', 'suspect', 'up', 'up'], 'states')
            answers = set(victims.delete_all())  # 503 where replicas are in doubt
            check(answers <= {204, 503}, f'deletes meanwhile: {answers}')
            load.check_goes_on()
            check_equal(count(cluster, active, ' block_closed '), closed, 'blocks closed')
        load.check_no_gap()
        wait_until(lambda: states() == ['up'] * 4, lambda: f'all are up again: {states()}')
        victims.check_deleted_at_last()
        check_equal((cluster.active(), cluster.gauges(active)['epoch']), (active, epoch),
                    'the active one and its epoch')


def test_f37_f68_deletes_while_no_nameserver_hears_a_dsp():
    """F37: dsps in doubt take no deletes: 503, and nothing is half deleted. Reads go on."""
    with pair_under_load(deletes=False) as (cluster, load):
        active, _ = load.pair()
        victims = Victims(cluster, load, 4)

        def in_doubt():
            return [cluster.log(f'dsp-{i}-1').count(' dsp_in_doubt ') for i in DSPS]
        before = in_doubt()
        with cluster.deaf(*both_ways(NAMESERVERS, DSPS)):
            wait_until(lambda: all(now > then for now, then in zip(in_doubt(), before)),
                       'all are in doubt', 10)
            check_equal(set(victims.delete_all()), {503}, 'deletes meanwhile')
            for file_id, body in victims.bodies.items():
                check(cluster.download(file_id) == body, f'{file_id} is read')
            load.await_reads(20)  # a nameserver that hears no dsp grants no block
        victims.check_deleted_at_last()
        check_equal(cluster.active(), active, 'the active one')


def all_well(cluster):
    status = cluster.why_not_whole() == '' and cluster.status_if_any()
    return status and {dsp['state'] for dsp in status['dsps']} == {'up'} and \
        all(cluster.serves(dsp) for dsp in cluster.processes('dsp'))


def test_f39_swizzle_clog():
    """F39: one machine after the other falls silent, and they come back in another order.

    All of them, also etcd's and both nameservers'. Within 60 s all is well.
    """
    machines = [*DSPS, *NAMESERVERS, *ETCDS]
    seed = random.randrange(1 << 30)
    choose = random.Random(seed)
    print(f'swizzle, seed {seed}', flush=True)
    with pair_under_load(unavailable=True) as (cluster, load):
        with contextlib.ExitStack() as at_the_end:
            clogs = {}
            for machine in choose.sample(machines, len(machines)):
                clogs[machine] = at_the_end.enter_context(contextlib.ExitStack())
                clogs[machine].enter_context(cluster.clogged(machine))
                pause(time.monotonic(), choose.uniform(0.05, 1))
            pause(time.monotonic(), LEASE_S)
            check(not cluster.active(), 'nobody is heard')
            for machine in choose.sample(machines, len(machines)):
                clogs[machine].close()
                pause(time.monotonic(), choose.uniform(0.05, 1))
        begun = time.monotonic()
        wait_until(lambda: all_well(cluster), cluster.why_not_whole, 60)
        load.told['well_after_s'] = round(time.monotonic() - begun, 1)


def test_f14_etcd_without_a_quorum():
    """F14: its leader dies, then one more; then one comes back. Nothing is deleted, as above."""
    with pair_under_load(LARGE_BLOCKS, deletes=False) as (cluster, load):
        leader = cluster.etcd_leader()
        cluster.kill_etcd(leader)
        begun = time.monotonic()
        pause(begun, LEASE_S)
        wait_until(cluster.active, 'one is active', 4)
        load.check_goes_on()
        cluster.wait_whole()
        active, _ = load.pair()  # the other one, if the members took long to choose a leader
        load.told['epoch_without_the_leader'] = cluster.gauges(active)['epoch']
        ended = count(cluster, active, ' node_ends ')
        other = min(cluster.members)
        cluster.kill_etcd(other)
        begun = time.monotonic()
        wait_until(lambda: count(cluster, active, ' node_ends ') > ended, 'it ends', 6)
        load.told['ends_after_s'] = round(time.monotonic() - begun, 2)
        load.check_goes_on()  # with the blocks that the gateway has
        pause(begun, 6)
        load.check_goes_on()
        load.check_no_gap()
        for nameserver in NAMESERVERS:
            check_quiet_after(load, nameserver, begun)
        begun = time.monotonic()
        cluster.start_etcd(other)
        wait_until(cluster.active, 'one is active again', 10)
        load.told['active_after_s'] = round(time.monotonic() - begun, 2)
        cluster.wait_whole()
        cluster.start_etcd(leader)


if __name__ == '__main__':
    if enter_own_network():
        main([value for name, value in list(globals().items()) if name.startswith('test_')])
    else:
        print('skipped: network namespaces are not allowed here')
