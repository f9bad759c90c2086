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


def attack(cluster, small, path, words, seconds=8, attackers=ATTACKERS):
    """Runs slowhttptest against a path while an ordinary client is served. Returns
    (slow clients that were given up, the most MiB that the gateway grew by)."""
    before, slow = resident_mib(cluster), counter(cluster, 'http_slow_clients_total')
    requests = counter(cluster, 'http_accepted_total')
    command = ['slowhttptest', '-c', str(attackers), '-r', '200', '-l', str(seconds), '-p', '5',
               '-u', f'http://{cluster.gateway}{path}', *words]
    most = before
    with OrdinaryClient(cluster, small) as client:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True) as attacker:
            try:
                while attacker.poll() is None:
                    most = max(most, resident_mib(cluster))
                    client.stopped.wait(0.1)
                output = attacker.stdout.read()
            finally:
                attacker.kill()
    accepted = counter(cluster, 'http_accepted_total') - requests - len(client.took)
    slow = counter(cluster, 'http_slow_clients_total') - slow
    print(f'   {" ".join(words[:1])} {path}: {accepted} attackers, {slow} given up; '
          f'{len(client.took)} others served, p99 {p99(client.took) * 1000:.0f} ms; '
          f'{most - before} MiB more')
    check(accepted >= attackers * 0.9, f'the attack took place: {accepted} {output[-1500:]}')
    check_equal(client.failed, [], f'of {len(client.took)} requests of others')
    check(len(client.took) >= 100, f'others were served: {len(client.took)}')
    check(p99(client.took) < 1, f'p99 of others: {p99(client.took)} s')
    wait_until(lambda: counter(cluster, 'http_connections') == 0, 'connections are given back', 30)
    wait_until(lambda: counter(cluster, 'download_memory_bytes') == 0, 'so is their memory', 10)
    return slow, most - before


def slow_cluster():
    return Cluster(disks=1, sets=['gateway.header_timeout_ms=2000', 'gateway.body_window_ms=2000',
                                  'gateway.idle_timeout_ms=3000'])


def test_slow_clients():
    """S01, S06: slowhttptest's modes, 200 at once: they are given up, others notice nothing."""
    with slow_cluster() as cluster:
        cluster.up()
        small, long = (cluster.upload(body)['id'] for body in (SMALL, LONG))
        # A connection that tells a header a second and never ends its head.
        slow, grown = attack(cluster, small, '/' + small, ['-H', '-i', '1', '-x', '16'], 5)
        check(slow >= ATTACKERS * 0.9 and grown < 64, f'slow heads: {slow} {grown}')
        slow, grown = attack(cluster, small, '/v1/files',
                             ['-B', '-i', '1', '-x', '10', '-s', '65536', '-f', 'image/png'], 5)
        check(slow >= ATTACKERS * 0.9 and grown < 64, f'slow bodies: {slow} {grown}')
        # Up to 1 MiB for each that does not take it, and never beyond download_memory_bytes.
        slow, grown = attack(cluster, small, '/' + long,
                             ['-X', '-n', '1', '-z', '16', '-w', '256', '-y', '512'], 6)
        check(slow >= ATTACKERS * 0.9 and grown < 320, f'slow readers: {slow} {grown}')
        _, grown = attack(cluster, small, '/' + small, ['-R', '-t', 'GET', '-a', '5', '-b', '3000'],
                          5)
        check(grown < 64, f'many ranges: {grown}')


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
    with Cluster(disks=1) as cluster:
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
    with Cluster(dataservers=2, disks=1, copies=2, gateways=2) as cluster:
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
