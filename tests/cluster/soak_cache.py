"""`make soak`: the cache tier at its full sizes."""

import concurrent.futures
import contextlib
import math
import os
import random
import signal
import statistics
import threading
import time

import cache_test
from cache_test import DELETE_S, MIB, Deleter, Readers, TierCluster
from harness import random_bytes
from load import ERRORS
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
        self.choose = random.Random(5)
        self.whole_from = {}  # by address: since when it reaches a replica, and is there

    def run(self):
        while not self.ended.wait(self.choose.uniform(0.5, 2)):
            kind = self.choose.choice(['stop', 'stop', 'kill'])
            self.count(kind)
            getattr(self, kind)(self.choose.choice(self.cluster.gateways()[1:]))

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def stop(self, victim):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim['pid'], signal.SIGSTOP)
        time.sleep(self.choose.uniform(0.2, 3))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim['pid'], signal.SIGCONT)

    def kill(self, victim):
        with self.not_whole([victim], 0):
            self.cluster.restart(victim)

    @contextlib.contextmanager
    def not_whole(self, victims, until_whole_s):
        for victim in victims:
            self.whole_from[victim['address']] = math.inf
        yield
        for victim in victims:
            self.whole_from[victim['address']] = time.monotonic() + until_whole_s

    def is_whole(self, address, at):
        return self.whole_from.get(address, 0) <= at


class Judge:
    """Deletes and undeletes at random, and what each gateway answers a second later, and later.

    Who is whole answers what is so. Who is not may say nothing, or that it does not know; but what
    it is sure of is so, too.
    """

    def __init__(self, cluster, trouble, files=400):
        self.cluster, self.trouble, self.deleter = cluster, trouble, Deleter(cluster, files)
        self.addresses = [each['address'] for each in cluster.gateways()]
        self.choose, self.deleted = random.Random(9), set()
        self.changes, self.wrong = 0, []
        self.whole = self.unsure = 0  # answers
        self.lock = threading.Lock()

    def run(self, changes):
        self.trouble.start()
        try:
            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                while self.changes < changes:
                    self.round(pool)
        finally:
            self.trouble.ended.set()
            self.trouble.join()

    def round(self, pool):
        numbers = self.choose.sample(range(len(self.deleter.files)), 100)
        for number in numbers:
            self.deleter.statuses(number, self.addresses[:1])
            since = self.deleter.change(number, self.addresses[0], number in self.deleted)
            self.deleted ^= {number}
        self.changes += len(numbers)
        time.sleep(max(0, since + DELETE_S - time.monotonic()))
        for done in [pool.submit(self.check, number, address)
                     for number in numbers for address in self.addresses]:
            done.result()

    def check(self, number, address):
        file_id = self.deleter.files[number][0]
        asked = time.monotonic()
        whole = self.trouble.is_whole(address, asked)
        status, sure = self.ask(file_id, address)
        if status == 503 and whole:  # one that stood still refuses what has waited for so long
            status, sure = self.ask(file_id, address)
        wanted = 410 if number in self.deleted else 200
        right = status == wanted and sure
        whole = whole and self.trouble.is_whole(address, asked)
        unsure = status in (0, 503) or (status == 200 and not sure)
        with self.lock:
            self.whole += whole
            self.unsure += not whole and not right
            if not right and (whole or not unsure):
                self.wrong.append(f'{address} whole={whole} {file_id}: {status} sure={sure}, '
                                  f'wanted {wanted}')
                print(self.wrong[-1], self.trouble.counts, flush=True)

    def ask(self, file_id, address):
        """The status, 0: no answer; and whether it is sure."""
        try:
            status, headers, _ = self.cluster.request('GET', '/' + file_id, address=address)
        except ERRORS:
            return 0, False
        return status, headers.get('Cache-Control') != 'no-cache'

    def figures(self):
        return [figure('deletes and undeletes', self.changes, f'>= {DELETES}',
                       self.changes >= DELETES),
                *(figure(f'trouble: {kind}', count, '> 0', count > 0)
                  for kind, count in sorted(self.trouble.counts.items())),
                figure('answers, of whole ones', self.whole, f'> {self.changes}',
                       self.whole > self.changes),
                figure('of others, unsure', self.unsure, 'counted', True),
                equal('answers that were wrong or late', len(self.wrong), 0)]


def cache_deletes():
    """Random deletes and undeletes under load, gateways stopped and killed meanwhile: a second
    after its 204 no gateway answers a deleted file."""
    with TierCluster() as cluster:
        cluster.up()
        judge = Judge(cluster, Trouble(cluster))
        judge.run(DELETES)
        return judge.figures()


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
