#!/usr/bin/env python3
"""Attacks on a gateway: slow clients while others are served, and smuggled requests, directly and
through nginx."""

import re
import socket
import subprocess
import threading
import time

import smuggling
from fronts import Nginx, counter
from harness import Cluster, check, check_equal, main, random_bytes, wait_until
from load import p99

SMALL = random_bytes(16 << 10, 1)
LONG = random_bytes(8 << 20, 2)
ATTACKERS = 200


# --- slow clients -----------------------------------------------------------------------------
class OrdinaryClient:
    """One that reads and now and then uploads all the while, and expects to be served."""

    def __init__(self, cluster, file_id):
        self.cluster, self.file_id = cluster, file_id
        self.took, self.failed = [], []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def run(self):
        while not self.stopped.wait(0.005):
            begun = time.monotonic()
            try:
                if len(self.took) % 10 == 9:
                    status, _, body = self.cluster.request('POST', '/v1/files', SMALL)
                    served = status == 201
                else:
                    status, _, body = self.cluster.request('GET', '/' + self.file_id)
                    served = (status, body) == (200, SMALL)
            except OSError as error:
                status, served = repr(error), False
            self.took.append(time.monotonic() - begun)
            if not served:
                self.failed.append(status)


def resident_mib(cluster):
    pid = cluster.process('gateway-1')['pid']
    with open(f'/proc/{pid}/status', encoding='utf-8') as file:
        return int(re.search(r'VmRSS:\s+(\d+)', file.read())[1]) >> 10


def assault(cluster, small, path, words, seconds, attackers):
    """Runs slowhttptest against a path while an ordinary client is served; what came of it."""
    names = ('http_slow_clients_total', 'http_accepted_total')
    before, counted = resident_mib(cluster), [counter(cluster, name) for name in names]
    command = ['slowhttptest', '-c', str(attackers), '-r', '200', '-l', str(seconds), '-p', '5',
               '-u', f'http://{cluster.gateway}{path}', *words]
    most = before
    with OrdinaryClient(cluster, small) as client:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL) as attacker:
            try:
                while attacker.poll() is None:
                    most = max(most, resident_mib(cluster))
                    client.stopped.wait(0.1)
            finally:
                attacker.kill()
    slow, accepted = (counter(cluster, name) - then for name, then in zip(names, counted))
    wait_until(lambda: counter(cluster, 'http_connections') == 0, 'connections are given back', 60)
    wait_until(lambda: counter(cluster, 'download_memory_bytes') == 0, 'so is their memory', 10)
    report = {'attackers': accepted - len(client.took), 'given_up': slow,
              'served': len(client.took) - len(client.failed), 'failed': client.failed[:5],
              'p99_ms': round(p99(client.took) * 1000, 1), 'grown_mib': most - before}
    print(f'   {words[0]} {path}: {report}', flush=True)
    return report


def attack(cluster, small, path, words, seconds, grown_mib_max):
    """The same, in small, and others must have noticed nothing."""
    report = assault(cluster, small, path, words, seconds, ATTACKERS)
    check(report['attackers'] >= ATTACKERS * 0.9, f'the attack took place: {report}')
    check_equal(report['failed'], [], 'requests of others that failed')
    check(report['served'] >= 100, f'others were served: {report}')
    check(report['p99_ms'] < 1000, f'p99 of others: {report}')
    check(report['grown_mib'] < grown_mib_max, f'memory: {report}')
    return report


# For slowhttptest: its mode and what it asks for, one that never ends its head, one that never ends
# its body, one that never reads, and one that asks for many ranges.
HEADS = ['-H', '-i', '1', '-x', '16']
BODIES = ['-B', '-i', '1', '-x', '10', '-s', '65536', '-f', 'image/png']
READERS = ['-X', '-n', '1', '-z', '16', '-w', '256', '-y', '512']
RANGES = ['-R', '-t', 'GET', '-a', '5', '-b', '3000']


def slow_cluster():
    return Cluster(directory_shards=0, disks=1,
                   sets=['gateway.header_timeout_ms=2000', 'gateway.body_window_ms=2000',
                         'gateway.idle_timeout_ms=3000'])


def test_slow_clients():
    """S01, S06: slowhttptest's modes, 200 at once: they are given up, others notice nothing."""
    with slow_cluster() as cluster:
        cluster.up()
        small, long = (cluster.upload(body)['id'] for body in (SMALL, LONG))
        for path, words, seconds, grown_mib_max in (
                ('/' + small, HEADS, 5, 64), ('/v1/files', BODIES, 5, 64),
                # Up to 1 MiB for each that does not take it, within download_memory_bytes.
                ('/' + long, READERS, 6, 320)):
            report = attack(cluster, small, path, words, seconds, grown_mib_max)
            check(report['given_up'] >= ATTACKERS * 0.9, f'they were given up: {report}')
        attack(cluster, small, '/' + small, RANGES, 5, 64)


# --- smuggled requests --------------------------------------------------------------------------
def answers_in(received):
    """The status of each answer in a connection's bytes; interim ones left out."""
    statuses = []
    while received:
        match = re.match(rb'HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?\r\n)??\r\n', received, re.S)
        check(match, f'an answer begins with a status line: {received[:200]!r}')
        length = re.search(rb'(?i)\r\ncontent-length: (\d+)', match[0])
        received = received[match.end() + (int(length[1]) if length else 0):]
        if match[1][:1] != b'1':
            statuses.append(int(match[1]))
    return statuses


def exchange(port, text, shut):
    """All that comes back for these bytes. `shut`: their end is told by shutting our side; nginx
    would take that for a client that has gone, so there one answer is waited for."""
    with socket.create_connection(('127.0.0.1', port), timeout=30) as client:
        client.sendall(text.encode('latin-1'))
        if shut:
            client.shutdown(socket.SHUT_WR)
        else:
            client.settimeout(3)
        received = b''
        try:
            while piece := client.recv(1 << 16):
                received += piece
                if not shut and b'\r\n\r\n' in received:
                    break
        except TimeoutError:
            pass  # the front waits for more of a body
        return received


def test_smuggling_directly():
    """S03: what could be read in two ways is refused, and nothing behind it is a request."""
    with Cluster(directory_shards=0, disks=1) as cluster:
        cluster.up()
        for cases, requests, statuses in ((smuggling.REFUSED, 0, {400}),
                                          (smuggling.BAD_CHUNKS, 1, {400}),
                                          (smuggling.ONE, 1, {201, 404, 405})):
            for name, text in cases.items():
                before = counter(cluster, 'http_requests_total')
                told = answers_in(exchange(cluster.port, text, shut=True))
                check(len(told) == 1 and told[0] in statuses, f'{name}: {told}')
                check_equal(counter(cluster, 'http_requests_total') - before, requests, name)
        # The same measure sees requests that are pipelined rightly.
        before = counter(cluster, 'http_requests_total')
        told = answers_in(exchange(cluster.port, 'GET /x HTTP/1.1\r\nHost: h\r\n\r\n'
                                   + smuggling.SMUGGLED, shut=True))
        check_equal((told, counter(cluster, 'http_requests_total') - before), ([400, 400], 2),
                    'two requests')


def forwarded(nginx):
    """How many requests nginx has sent on, by its log: an address for each."""
    with open(nginx.dir + '/hayloft.log', encoding='utf-8') as file:
        lines = re.findall(r'" \d+ \d+ \S+ (.+) [\d.]+$', file.read(), re.M)
    return sum(line.count(':') for line in lines)


def seen_by_gateways(cluster):
    """Refused ones as well: nginx passes a request of HTTP/0.9 on, without a Host."""
    return counter(cluster, 'http_requests_total') + counter(cluster, 'http_malformed_total')


def test_smuggling_through_nginx():
    """S03: the gateway never sees a request that nginx did not send, and no answer goes astray."""
    with Cluster(directory_shards=0, dataservers=2, disks=1, copies=2, gateways=2) as cluster:
        cluster.up()
        with Nginx(cluster) as nginx:
            for name, text in {**smuggling.REFUSED, **smuggling.BAD_CHUNKS,
                               **smuggling.ONE}.items():
                seen, sent = seen_by_gateways(cluster), forwarded(nginx)
                received = exchange(nginx.port, text, shut=False)
                check(b'smuggled' not in received, f'{name}: {received[:300]!r}')
                # Others, on the connections that nginx has kept, get what they asked for.
                for _ in range(2):
                    status, _, body = cluster.request('GET', '/v1/files/' + 'A' * 18,
                                                      address=nginx.address)
                    check((status, b'not_found' in body) == (404, True), f'{name}: {status} {body}')
                    status = cluster.request('DELETE', '/v1/files/' + 'A' * 18,
                                             address=nginx.address)[0]
                    check_equal(status, 401, f'another, behind {name}')

                def counts():
                    return (seen_by_gateways(cluster) - seen,  # pylint: disable=W0640
                            forwarded(nginx) - sent)  # pylint: disable=W0640
                wait_until(lambda: len(set(counts())) == 1,
                           lambda: f'{name}: seen and sent: {counts()}', 10)
            check(forwarded(nginx) >= 60 * 4, f'nginx did send on: {forwarded(nginx)}')


if __name__ == '__main__':
    main([test_smuggling_directly, test_smuggling_through_nginx, test_slow_clients])
