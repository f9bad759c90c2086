#!/usr/bin/env python3
"""Partitions between machines: half of them, one way only, a cable that is out, a link that flaps.

    network_test.py [--seconds N] [test ...]    so long each

Uploads and reads never stop meanwhile, and none fails; what was suspected wrongly costs nothing.
"""

import argparse
import json
import os
import sys
import time

from copies_test import SMALL_BLOCKS
from harness import check, check_equal, main, wait_until
from load import HttpReaders, Uploaders, check_nothing_lost, wait_sealed
from networks import (NetworkCluster, check_gateway_is_lean, enter_own_network, threads_and_files)


OPTIONS = argparse.ArgumentParser()
OPTIONS.add_argument('--seconds', type=float, default=4)


def states(cluster):
    return {dsp['machine']: dsp['state'] for dsp in cluster.status()['dsps']}


def wait_all_up(cluster):
    wait_until(lambda: set(states(cluster).values()) == {'up'},
               lambda: f'all are up again: {states(cluster)}')


def closed_blocks(cluster):
    return cluster.log('nameserver-1').count(' block_closed ')


def await_uploads(uploaders, count):
    before = uploaders.acknowledged()
    wait_until(lambda: uploaders.acknowledged() >= before + count, f'{count} more uploads')


def half_cut_from_the_nameserver(cluster, uploaders, seconds):
    """F37: so many fall silent at once that nothing is closed, and all goes on as before."""
    before = closed_blocks(cluster)
    begun = time.monotonic()
    with cluster.deaf((1, 0), (2, 0)):
        wait_until(lambda: 'suspect' in states(cluster).values(), 'two are silent', 15)
        wait_until(lambda: time.monotonic() > begun + seconds, 'time passes')
        check_equal(states(cluster), {'machine-1': 'suspect', 'machine-2': 'suspect',
                                      'machine-3': 'up', 'machine-4': 'up'}, 'states')
        await_uploads(uploaders, 20)
        check_equal(closed_blocks(cluster), before, 'blocks closed by the nameserver')
    wait_all_up(cluster)


def deaf_one_way(cluster, uploaders, seconds):
    """F38: what 1 sends to 2 is lost. Blocks with both are closed; then others are used."""
    def failed():
        return sum(cluster.log(f'dsp-{i}-1').count(' secondary_failed ') for i in (1, 2, 3, 4))
    before = failed()
    begun = time.monotonic()
    with cluster.deaf((1, 2)):
        wait_until(lambda: failed() > before, 'a block with both is met')
        wait_until(lambda: time.monotonic() > begun + seconds, 'time passes')
        await_uploads(uploaders, 20)
    closed = failed() - before
    check(closed <= 8 + 2 * seconds, f'{closed} blocks were closed in {seconds} s')
    wait_all_up(cluster)
    return closed


def unplug(cluster, uploaders, seconds):
    """F41: a machine vanishes with its connections open; its peers and clients do without it."""
    before = threads_and_files(cluster)
    begun = time.monotonic()
    with cluster.unplugged(3):
        wait_until(lambda: states(cluster)['machine-3'] == 'suspect', 'it is suspect', 15)
        wait_until(lambda: time.monotonic() > begun + seconds, 'time passes')
        await_uploads(uploaders, 20)
    wait_all_up(cluster)
    check_gateway_is_lean(cluster, before)


def flap(cluster, uploaders, times):
    """F38: a link that goes up and down each second; it ends in order."""
    for _ in range(times):
        with cluster.unplugged(4):
            begun = time.monotonic()
            wait_until(lambda b=begun: time.monotonic() > b + 1, 'a second without it')
        await_uploads(uploaders, 5)
    wait_all_up(cluster)


def partitions(seconds, threads=4):
    """All of them, one after the other. Returns what happened, for the report."""
    # Blocks that are soon full, so that all sets of machines have their turn.
    with NetworkCluster(machines=4, copies=3, sets=SMALL_BLOCKS) as cluster:
        cluster.up()
        report = {}
        with Uploaders(cluster, os.path.join(cluster.dir, 'up'), threads=threads) as uploaders, \
                HttpReaders(uploaders) as readers:
            await_uploads(uploaders, 50)
            for fault, amount in ((half_cut_from_the_nameserver, seconds), (deaf_one_way, seconds),
                                  (unplug, seconds), (flap, int(seconds / 2))):
                uploaders.longest_gap_s = 0.0
                told = fault(cluster, uploaders, amount)
                report[fault.__name__] = {'longest_gap_s': round(uploaders.longest_gap_s, 2)}
                report[fault.__name__] |= {'closed': told} if told is not None else {}
        report |= {'uploads': len(uploaders.took), 'refused': uploaders.refused,
                   'no_answer': uploaders.broken, 'reads': readers.reads,
                   'slowest_read_s': round(max(took for _, took in readers.took), 2)}
        print(json.dumps(report))
        check_equal(readers.failed[:3], [], 'reads that failed')
        check_equal((uploaders.refused, uploaders.broken), (0, 0), 'uploads that failed')
        check_nothing_lost(cluster, uploaders)
        wait_sealed(cluster)
        return report


def test_f37_f38_f41_partitions_stop_neither_uploads_nor_reads():
    """Half the machines cut from the nameserver; one way; a cable out; a link that flaps."""
    report = partitions(ARGUMENTS.seconds)
    gaps = [report[fault.__name__]['longest_gap_s']
            for fault in (half_cut_from_the_nameserver, deaf_one_way, unplug, flap)]
    check(max(gaps) <= 5, f'uploads never stop for more than 5 s: {report}')


if __name__ == '__main__':
    if not enter_own_network():
        print('skipped: network namespaces are not allowed here')
    else:
        ARGUMENTS, REST = OPTIONS.parse_known_args()
        sys.argv[1:] = REST
        main([value for name, value in list(globals().items()) if name.startswith('test_')])
