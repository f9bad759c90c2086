"""`make soak`: the cache tier at its full sizes."""

import contextlib
import os
import random
import signal
import statistics
import threading
import time

import cache_test
from cache_test import MIB, Deleter, Readers, TierCluster
from harness import check, random_bytes
from soak_promises import equal, figure

DELETES = 10_000
STILL_S = 1_800
RSS_CACHE_MIB = 512


def rss_bytes(process):
    with open(f'/proc/{process["pid"]}/status', encoding='utf-8') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmRSS')) * 1024


class Trouble(threading.Thread):
    """Stops, kills and starts again one gateway after the other; the first is left alone."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.ended, self.counts = cluster, threading.Event(), {}
        self.lock = threading.Lock()  # held while one is not to be asked

    def run(self):
        choose = random.Random(5)
        while not self.ended.wait(choose.uniform(0.5, 2)):
            victim = choose.choice(self.cluster.gateways()[1:])
            what = choose.choice(['stop', 'stop', 'kill'])
            self.counts[what] = self.counts.get(what, 0) + 1
            with self.lock:
                if what == 'kill':
                    self.cluster.kill(victim)
                    self.cluster.up()
                    continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim['pid'], signal.SIGSTOP)
            time.sleep(choose.uniform(0.2, 3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim['pid'], signal.SIGCONT)


def cache_deletes():
    """Random deletes and undeletes under load, gateways stopped and killed meanwhile: a second
    after its 204 no gateway answers a deleted file."""
    with TierCluster() as cluster:
        cluster.up()
        deleter = Deleter(cluster, 400)
        choose, deleted, checked = random.Random(9), set(), 0
        files = {file_id: body for file_id, _, body in deleter.files}
        trouble = Trouble(cluster)
        trouble.start()
        try:
            while checked < DELETES:
                numbers = choose.sample(range(len(deleter.files)), 100)
                for number in numbers:
                    deleter.statuses(number, cluster.addresses()[:1])
                    since = deleter.change(number, cluster.addresses()[0], number in deleted)
                    deleted ^= {number}
                for number in numbers:
                    wanted = 410 if number in deleted else 200
                    with trouble.lock:
                        deleter.check_by(number, wanted, since, cluster.addresses())
                checked += len(numbers)
        finally:
            trouble.ended.set()
            trouble.join()
        check(files, 'there were files')
        return [figure('deletes and undeletes', checked, f'>= {DELETES}', checked >= DELETES),
                figure('gateways stopped', trouble.counts.get('stop', 0), '> 0',
                       trouble.counts.get('stop', 0) > 0),
                figure('gateways killed', trouble.counts.get('kill', 0), '> 0',
                       trouble.counts.get('kill', 0) > 0),
                equal('answers that were wrong or late', len(deleter.late), 0)]


def cache_gateway_dies():
    """kill -9 of one of three gateways under load."""
    cache_test.test_a_gateway_dies()
    return []


def cache_memory():
    """Resident bytes of a gateway whose cache is full, beyond those of one with an empty one."""
    with TierCluster(gateways=1, cache_mib=RSS_CACHE_MIB) as cluster:
        cluster.up()
        process = cluster.gateways()[0]
        empty = rss_bytes(process)
        number = 0
        while cluster.told(process, 'cache_evictions_total') < 5_000:
            for _ in range(500):
                size = max(200, min(900_000, int(random.Random(number).lognormvariate(9.2, 1.1))))
                cluster.upload(random_bytes(size, number))
                number += 1
        grown = rss_bytes(process) - empty
        share = grown / (RSS_CACHE_MIB * MIB)
        return [figure('of cache_bytes', round(share, 4), '<= 1.02', share <= 1.02)]


def cache_growth():
    """30 minutes of mixed load: resident bytes of the gateways do not grow once their caches are
    full."""
    with TierCluster(cache_mib=16) as cluster:
        cluster.up()
        files = cache_test.fill(cluster, 2_000, 16 * 1024)
        samples = []
        with Readers(cluster, files, cluster.addresses(), count=8) as readers:
            end = time.monotonic() + STILL_S
            number = 0
            while time.monotonic() < end:
                for _ in range(50):
                    cluster.upload(random_bytes(8_000, 50_000 + number))
                    number += 1
                samples.append(sum(rss_bytes(each) for each in cluster.gateways()))
                time.sleep(5)
        third = len(samples) // 3
        early = statistics.median(samples[third:2 * third])
        late = statistics.median(samples[-third:])
        return [equal('failed reads', len(readers.failed), 0),
                figure('growth from the second third to the last', round(late / early - 1, 4),
                       '<= 0.02', late <= 1.02 * early)]


PARTS = {'cache_deletes': cache_deletes, 'cache_gateway_dies': cache_gateway_dies,
         'cache_memory': cache_memory, 'cache_growth': cache_growth}
