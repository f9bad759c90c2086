#!/usr/bin/env python3
"""The cache tier on real processes: memory adds up, deletes arrive, a gateway may die.

Sizes are those of `make test`; soak_cache.py calls the same with the full ones.
"""

import http.client
import os
import random
import signal
import threading
import time

from harness import (Cluster, admin_address, check, check_equal, main, metric, random_bytes,
                     wait_until)
from load import ERRORS, Threads

MIB = 1 << 20
DELETE_S = 1.0  # a deleted file is gone from every gateway by then
JOIN_S = 0.2    # who comes so much later than a read began does not wait for it


class TellsMetrics:
    """Of a cluster's gateways: what they say of themselves."""

    def metrics(self, process):
        return self.request('GET', '/metrics', address=admin_address(process),
                            timeout=5)[2].decode()

    def told(self, process, name):
        try:
            return metric(self.metrics(process), f'hayloft_gateway_{name}')
        except (*ERRORS, StopIteration):
            return None


class TierCluster(TellsMetrics, Cluster):
    def __init__(self, gateways=3, cache_mib=8, **kwargs):
        super().__init__(dataservers=3, disks=1, copies=3, gateways=gateways, directory_shards=0,
                         cache_bytes=cache_mib * MIB, **kwargs)

    def up(self, *words, **kwargs):
        result = super().up(*words, **kwargs)
        gateways = self.gateways()
        if len(gateways) == 1:
            return result
        wait_until(lambda: all(self.told(each, 'gateways') == len(gateways) for each in gateways),
                   'the gateways know each other', 15)
        return result

    def gateways(self):
        return self.processes('gateway')

    def addresses(self):
        return [process['address'] for process in self.gateways()]

    def restart(self, gateway):
        """kill -9; again when all are ready."""
        self.kill(gateway)
        self.up()

    def dsp_reads(self):
        return sum(metric(self.request('GET', '/metrics', address=dsp['http'])[2].decode(),
                          'hayloft_dsp_reads_total') for dsp in self.processes('dsp'))


def fill(cluster, files, size):
    """{id: bytes} of that many files, uploaded by any of the gateways."""
    gateways = cluster.addresses()
    stored = {}
    for number in range(files):
        body = random_bytes(size, number)
        status, _, answer = cluster.request('POST', '/v1/files', body,
                                            {'Content-Type': 'image/png'},
                                            address=gateways[number % len(gateways)])
        check_equal(status, 201, 'an upload')
        stored[answer.decode().split('"id":"')[1][:18]] = body
    return stored


def read_all(cluster, files, address):
    """How each was answered: {'hit': n, 'peer': n, 'miss': n}."""
    how = {}
    connection = http.client.HTTPConnection(address, timeout=20)
    for file_id, body in files.items():
        connection.request('GET', '/' + file_id)
        answer = connection.getresponse()
        got = answer.read()
        check(answer.status == 200 and got == body, lambda: f'{file_id}: {answer.status}')
        cache = answer.getheader('X-Cache')
        how[cache] = how.get(cache, 0) + 1
    connection.close()
    return how


def test_the_memory_of_three_gateways_adds_up():
    """What three keep is at least 2.5 times what one of them can, and no file is kept twice."""
    with TierCluster() as cluster:
        cluster.up()
        size, room = 32 * 1024, 8 * MIB
        files = fill(cluster, 3 * room // size, size)  # three times what one has memory for
        for address in cluster.addresses():
            read_all(cluster, files, address)
        kept = [cluster.told(each, 'cache_entries') for each in cluster.gateways()]
        check(sum(kept) * size >= 2.5 * room, lambda: f'{kept} files of {size} are kept')
        # Each is in one memory: asked for at all three, it comes from its keeper's or by a hop.
        sample = dict(list(files.items())[-50:])
        hits = sum(read_all(cluster, sample, address).get('hit', 0)
                   for address in cluster.addresses())
        check(hits <= len(sample), lambda: f'{hits} hits of {len(sample)} files')


def test_parts_and_questions_come_from_the_keeper_too():
    """HEAD, If-None-Match and ranges at all gateways: no dsp is read for what one of them keeps."""
    with TierCluster() as cluster:
        cluster.up()
        files = fill(cluster, 30, 5_000)
        for address in cluster.addresses():
            read_all(cluster, files, address)
        wait_until(lambda: all(cluster.told(each, 'feeds_trusted') == cluster.told(each, 'feeds')
                               for each in cluster.gateways()), 'all feeds are heard')
        for address in cluster.addresses():  # what was read before that is asked about once
            read_all(cluster, files, address)
        before, how = cluster.dsp_reads(), set()
        for file_id, body in files.items():
            for address in cluster.addresses():
                for method, headers, status, wanted in (
                        ('HEAD', {}, 200, b''),
                        ('GET', {'If-None-Match': f'"{file_id}"'}, 304, b''),
                        ('GET', {'Range': 'bytes=10-19'}, 206, body[10:20])):
                    got = cluster.request(method, '/' + file_id, headers=headers, address=address)
                    check_equal((got[0], got[2]), (status, wanted), f'{method} {headers}')
                    how.add(got[1]['X-Cache'])
        check_equal(how, {'hit', 'peer'}, 'where they came from')
        check_equal(cluster.dsp_reads() - before, 0, 'reads of disks')


def ask_at_once(cluster, file_id, body, count):
    """Asks all gateways for a file, so many times at once; the seconds between first and last."""
    barrier, sent, wrong = threading.Barrier(count), [], []
    addresses = cluster.addresses()

    def ask(number):
        connection = http.client.HTTPConnection(addresses[number % len(addresses)], timeout=20)
        connection.connect()
        barrier.wait(20)
        sent.append(time.monotonic())
        connection.request('GET', '/' + file_id)
        answer = connection.getresponse()
        if answer.status != 200 or answer.read() != body:
            wrong.append(answer.status)
        connection.close()

    with Threads(ask, count):
        pass
    check_equal(wrong, [], 'answers that were wrong')
    return max(sent) - min(sent)


def test_one_read_for_many_gateways():
    """F57: a hundred misses of one file, over all gateways at once, are one read of a disk.

    Who comes JOIN_S after a read began gets one of its own: then so many are not at once.
    """
    with TierCluster() as cluster:
        cluster.up()
        files = fill(cluster, 5, 20_000)
        for process in cluster.gateways():
            cluster.kill(process)
        cluster.up()  # with empty memories
        reads = []
        for file_id, body in files.items():
            before = cluster.dsp_reads()
            took = ask_at_once(cluster, file_id, body, 100)
            reads.append(cluster.dsp_reads() - before)
            check(reads[-1] <= 1 + int(took / JOIN_S), lambda: f'{reads} reads, in {took:.2f} s')
        check(1 in reads, lambda: f'reads of disks for each of five files: {reads}')


class Readers(Threads):
    """Threads that read files, chosen like users do, by gateways that are up."""

    def __init__(self, cluster, files, addresses, count=4):
        self.cluster, self.files, self.addresses = cluster, list(files.items()), addresses
        self.failed, self.how = [], []
        super().__init__(self.read, count)

    def read(self, number):
        choose = random.Random(number)
        connections = {}
        while not self.stopped.is_set():
            address = choose.choice(self.addresses)
            file_id, body = self.files[min(int(choose.paretovariate(0.5)) - 1,
                                           len(self.files) - 1)]
            try:
                connection = connections.setdefault(
                    address, http.client.HTTPConnection(address, timeout=20))
                connection.request('GET', '/' + file_id)
                answer = connection.getresponse()
                right = answer.status == 200 and answer.read() == body
            except ERRORS as error:
                right, answer = False, error
                connections.pop(address).close()
            with self.lock:
                if right:
                    self.how.append((time.monotonic(), answer.getheader('X-Cache')))
                else:
                    self.failed.append(f'{address}: {answer}')
        for connection in connections.values():
            connection.close()

    def hit_ratio(self, begin, end):
        how = [cache for at, cache in self.how if begin <= at < end]
        return sum(cache in ('hit', 'peer') for cache in how) / max(1, len(how))


def test_a_gateway_dies():
    """F12: kill -9 of one under load: no read by the others fails, and its files are kept again."""
    with TierCluster() as cluster:
        cluster.up()
        files = fill(cluster, 300, 8 * 1024)
        victim, *others = cluster.gateways()
        with Readers(cluster, files, [each['address'] for each in others]) as readers:
            time.sleep(3)
            before = readers.hit_ratio(time.monotonic() - 1, time.monotonic())
            cluster.kill(victim)
            killed = time.monotonic()
            wait_until(lambda: all(cluster.told(each, 'gateways') == 2 for each in others),
                       'the others know that it is gone', 20)
            wait_until(lambda: readers.hit_ratio(time.monotonic() - 1, time.monotonic()) >=
                       0.98 * before, 'as many are hits as before', 60)
            recovered = time.monotonic() - killed
        check_equal(readers.failed, [], 'failed reads')
        # It comes back with an empty memory, and takes over what the others have kept of its own.
        for address in (each['address'] for each in others):
            read_all(cluster, files, address)
        cluster.up()
        fresh = cluster.process(victim['name'])
        wait_until(lambda: cluster.told(fresh, 'refilled_total') >= 0.2 * len(files),
                   'it has refilled', 20)
        how = read_all(cluster, files, victim['address'])
        check(how.get('miss', 0) <= 0.1 * len(files), lambda: f'after its return: {how}')
        print(f'hits {before:.3f} before, again after {recovered:.1f} s; after its return {how}')


class Deleter:
    """Files that are deleted and undeleted in turn, and asked for at all gateways meanwhile."""

    def __init__(self, cluster, files, size=2_000):
        self.cluster = cluster
        self.files = []  # [id, token, bytes]
        for number in range(files):
            stored = cluster.upload(random_bytes(size, 10_000 + number))
            self.files.append((stored['id'], stored['delete_token'],
                               random_bytes(size, 10_000 + number)))
        self.late = []

    def change(self, number, address, undelete=False):
        file_id, token, _ = self.files[number]
        path = f'/v1/files/{file_id}' + ('/undelete' if undelete else '')

        def ask():
            return self.cluster.request('POST' if undelete else 'DELETE', path, address=address,
                                        headers={'Hayloft-Delete-Token': token})
        status, _, body = wait_until(lambda: (got := ask())[0] != 503 and got, path)
        check_equal(status, 200 if undelete else 204, f'{path}: {body}')
        return time.monotonic()

    def statuses(self, number, addresses):
        return [self.cluster.request('GET', '/' + self.files[number][0], address=address)[0]
                for address in addresses]

    def check_by(self, number, wanted, since, addresses):
        """All of these answer so at the bound, and from then on."""
        rest = since + DELETE_S - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        got = self.statuses(number, addresses)
        if 503 in got:  # one that stood still refuses what has waited for so long
            got = self.statuses(number, addresses)
        if got != [wanted] * len(addresses):
            self.late.append((self.files[number][0], wanted, got))


def test_deletes_reach_every_gateway():
    """A second after its 204 no gateway answers a deleted file; undeleted, it is back as soon."""
    with TierCluster() as cluster:
        cluster.up()
        addresses = cluster.addresses()
        deleter = Deleter(cluster, 60)
        choose = random.Random(1)
        for undelete in (False, True):
            for number in range(len(deleter.files)):
                check(set(deleter.statuses(number, addresses)) == {410 if undelete else 200},
                      'as it was before')
            last = [deleter.change(number, choose.choice(addresses), undelete)
                    for number in range(len(deleter.files))][-1]
            for number in range(len(deleter.files)):
                deleter.check_by(number, 200 if undelete else 410, last, addresses)
        check_equal(deleter.late, [], 'answers that were late')


def test_a_stopped_gateway_does_not_answer_what_was_deleted():
    """One that stood still meanwhile knows that it has missed something, and asks."""
    with TierCluster() as cluster:
        cluster.up()
        addresses = cluster.addresses()
        deleter = Deleter(cluster, 20)
        for number in range(len(deleter.files)):
            deleter.statuses(number, addresses)
        for process in cluster.gateways()[1:]:
            os.kill(process['pid'], signal.SIGSTOP)
        for number in range(len(deleter.files)):
            deleter.change(number, addresses[0])
        time.sleep(DELETE_S)
        for process in cluster.gateways()[1:]:
            os.kill(process['pid'], signal.SIGCONT)
        for number in range(len(deleter.files)):
            check_equal(deleter.statuses(number, addresses), [410] * len(addresses),
                        'right after it went on')


if __name__ == '__main__':
    main([test_the_memory_of_three_gateways_adds_up,
          test_parts_and_questions_come_from_the_keeper_too, test_one_read_for_many_gateways,
          test_a_gateway_dies, test_deletes_reach_every_gateway,
          test_a_stopped_gateway_does_not_answer_what_was_deleted])
