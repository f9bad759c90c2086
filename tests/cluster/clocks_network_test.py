#!/usr/bin/env python3
"""F34: machines whose clocks have nothing in common, and jump, under a pair of nameservers.

Every process of a machine, dsps, nameservers and the gateway's, has its machine's wall clock, which
the test sets (wrong_clock.cc), and its machine's time since boot, of a time namespace. Leases and
ids rest on neither.
"""

import datetime
import os
import random
import signal
import struct
import subprocess

from harness import TOP, check, check_equal, main, run, wait_until
from load import block_of, wait_promised
from networks import enter_own_network
from pair_network_test import check_quiet_after, count, pair_under_load
from pairs import DSPS, ETCDS, NAMESERVERS, PairCluster

HOUR_S, YEAR_S = 3600, 365 * 86400
BEYOND_2038 = datetime.datetime(2038, 2, 1, tzinfo=datetime.timezone.utc)
JUMPS_S = (HOUR_S, -HOUR_S, 10 * YEAR_S, -10 * YEAR_S,
           int((BEYOND_2038 - datetime.datetime.now(datetime.timezone.utc)).total_seconds()))
GATEWAY = 0
MACHINES = (GATEWAY, *DSPS, *NAMESERVERS)


class ClockCluster(PairCluster):
    """etcd's members keep the time: they ask the kernel for it by no library."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.library = os.path.join(self.dir, 'wrong_clock.so')
        run(os.environ.get('CXX', 'g++').split()[-1], '-std=c++20', '-O1', '-shared', '-fPIC', '-o',
            self.library, os.path.join(TOP, 'tests', 'cluster', 'wrong_clock.cc'))
        self.set_clocks(MACHINES, 0)

    def clock_of(self, machine):
        return os.path.join(self.dir, f'clock-{machine}')

    def set_clocks(self, machines, seconds):
        """So many seconds off the right time."""
        for machine in machines:
            path = self.clock_of(machine)
            with open(path, 'r+b' if os.path.exists(path) else 'wb') as file:
                file.write(struct.pack('<q', int(seconds)))

    def start_on(self, machine, command):
        if machine not in ETCDS:
            since_boot = machine * 1_000_003
            command = ['unshare', '--time', '--boottime', str(since_boot), '--monotonic',
                       str(since_boot // 7), 'env', 'LD_PRELOAD=' + self.library,
                       'HAYLOFT_TEST_CLOCK=' + self.clock_of(machine), *command]
        return super().start_on(machine, command)

    def year_of_last(self, nameserver, words):
        """In which, by its own log, the nameserver did so last."""
        name = f'nameserver-{NAMESERVERS.index(nameserver) + 1}'
        return [line[:4] for line in self.log(name).splitlines() if words in line][-1]

    def check_clocks_are_ours(self):
        pids = [process['pid'] for process in self.processes('dsp')] + \
            [process.pid for process in self.started if process not in self.members.values()]
        check_equal(len(pids), 2 * len(DSPS) + len(NAMESERVERS) + 1, 'processes')
        for pid in pids:
            with open(f'/proc/{pid}/maps', encoding='utf-8') as maps:
                text = maps.read()
            check(self.library in text and 'clock-' in text, f'{pid} has a clock of its own')


def own_time_is_allowed():
    return subprocess.run(['unshare', '--time', '--boottime', '100', 'true'], check=False,
                          capture_output=True).returncode == 0


def jump(cluster, load, machines, seconds):
    """Nothing comes of it: nobody is suspect, nobody takes over, uploads and reads go on."""
    cluster.set_clocks(machines, seconds)
    load.await_uploads(10)
    load.await_reads(10)
    check_equal({dsp['state'] for dsp in cluster.status()['dsps']}, {'up'}, 'states of dsps')


def test_f34_clocks_that_jump():
    """By an hour, ten years, beyond 2038; of one machine or all. Also of who is stopped meanwhile.
    """
    # Deletes are counted by the wall clock: how long they can be taken back.
    with pair_under_load(deletes=False, kind=ClockCluster) as (cluster, load):
        active, standby = load.pair()
        epoch, ended = cluster.gauges(active)['epoch'], count(cluster, active, ' node_ends ')
        for seconds in JUMPS_S:
            for machines in ([active], [standby], [GATEWAY, *DSPS[:2]], MACHINES):
                jump(cluster, load, machines, seconds)
        check_equal((cluster.active(), cluster.gauges(active)['epoch']), (active, epoch),
                    'the active one and its epoch')
        check_equal(count(cluster, active, ' node_ends '), ended, 'times it ended')
        load.check_no_gap()
        cluster.check_clocks_are_ours()
        # Each for itself. Who is stopped past its lease finds that by its clock no time has passed.
        for machine in MACHINES:
            cluster.set_clocks([machine], random.choice(JUMPS_S))
        cluster.set_clocks([standby], 10 * YEAR_S)
        cluster.signal(active, signal.SIGSTOP)
        stopped = load.watch.last_active(active)
        wait_until(lambda: load.watch.last_active(standby) > stopped, 'the other is active', 6)
        cluster.set_clocks([active], -10 * YEAR_S)
        wait_promised(cluster, cluster.gauges(standby)['epoch'])
        cluster.signal(active, signal.SIGCONT)
        wait_until(lambda: count(cluster, active, ' node_ends ') > ended, 'it ends', 6)
        check_quiet_after(load, active, stopped)
        check(cluster.gauges(standby)['epoch'] > epoch, 'a later epoch')
        this_year = datetime.date.today().year
        years = int(cluster.year_of_last(standby, ' active epoch=')) - this_year, \
            int(cluster.year_of_last(active, ' node_ends ')) - this_year
        check(years[0] in (9, 10) and years[1] in (-10, -9), f'years by their clocks: {years}')
        load.told['in_sync_after_s'] = round(cluster.wait_whole(), 1)
        check_equal(cluster.active(), standby, 'the active one')
        cluster.set_clocks(MACHINES, 0)
    blocks = {int.from_bytes(block_of(each), 'big') for each in load.uploaders.stored.values()}
    check(max(blocks) - min(blocks) < 1 << 16, f'ids of blocks are counted: {sorted(blocks)}')


if __name__ == '__main__':
    if enter_own_network() and own_time_is_allowed():
        main([test_f34_clocks_that_jump])
    else:
        print('skipped: network and time namespaces are not allowed here')
