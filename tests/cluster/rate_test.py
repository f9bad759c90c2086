#!/usr/bin/env python3
"""Rate limits of a running gateway: who floods is held, all others go on."""

import http.client
import os
import tempfile
import threading
import time

from harness import (BIN, Cluster, admin_address, check, check_equal, main, metric, random_bytes,
                     run, wait_until)

RATE = 20


class Client:
    """A keep-alive connection from an address of its own."""

    def __init__(self, cluster, address):
        self.connection = http.client.HTTPConnection(cluster.gateway, timeout=30,
                                                     source_address=(address, 0))

    def ask(self, path, method='GET', body=None, headers=None):
        self.connection.request(method, path, body=body, headers=headers or {})
        answer = self.connection.getresponse()
        answer.read()
        return answer


def flood(client, path, stop, statuses, waits):
    while not stop.is_set():
        answer = client.ask(path)
        statuses.append(answer.status)
        if answer.status == 429:
            waits.add(answer.headers['Retry-After'])


def test_one_address_floods_and_another_is_served():
    """127.0.0.2 gets its rate and no more, 127.0.0.3 every answer; metrics and health say so."""
    with Cluster(directory_shards=0, disks=1,
                 sets=[f'gateway.requests_per_s_per_address={RATE}']) as cluster:
        cluster.up()
        path = '/' + cluster.upload(random_bytes(1000))['id']
        stop, statuses, waits = threading.Event(), [], set()
        flooder = threading.Thread(
            target=flood, args=(Client(cluster, '127.0.0.2'), path, stop, statuses, waits))
        start = time.monotonic()
        flooder.start()
        try:
            wait_until(lambda: 429 in statuses, 'the flood is held')
            quiet = Client(cluster, '127.0.0.3')
            for _ in range(RATE):
                check_equal(quiet.ask(path).status, 200, 'the other address')
            for _ in range(2 * RATE):
                check_equal(quiet.ask('/readyz').status, 200, 'health is not counted')
            wait_until(lambda: time.monotonic() > start + 1.5, 'some time of the flood')
        finally:
            stop.set()
            flooder.join()
        seconds = time.monotonic() - start
        check_equal(sorted(set(statuses)), [200, 429], 'what the flood was answered')
        check_equal(waits, {'1'}, 'Retry-After')
        served = statuses.count(200)
        check(2 * RATE <= served <= RATE * (2 + seconds) + 1, f'{served} in {seconds:.2f} s')
        admin = admin_address(cluster.process('gateway-1'))
        refused = metric(cluster.request('GET', '/metrics', address=admin)[2].decode(),
                         'hayloft_gateway_rate_limited_total')
        check_equal(refused, statuses.count(429), 'counted')


def test_one_key_floods_and_another_is_served():
    """From one address: the one key gets its rate of requests and bytes, the other every answer."""
    with tempfile.TemporaryDirectory(prefix='hayloft-test-') as top:
        file, address = os.path.join(top, 'upload.keys'), '127.0.0.9'
        loud, quiet = ({'Authorization': 'Bearer ' + run(f'{BIN}/hayloft', 'key', 'upload', name,
                                                         '--file', file).stdout.strip()}
                       for name in ('loud', 'quiet'))
        with Cluster(directory_shards=0, disks=1, sets=[f'gateway.upload_keys={file}',
                                    f'gateway.requests_per_s_per_key={RATE}',
                                    'gateway.upload_bytes_max=50000',
                                    'gateway.upload_bytes_per_s_per_key=50000']) as cluster:
            cluster.up()

            def post(client, size, headers):
                return client.ask('/v1/files', 'POST', random_bytes(size), headers)
            for what, size in (('requests', 10), ('bytes', 40_000)):
                loud_client, quiet_client = Client(cluster, address), Client(cluster, address)
                answers = [post(loud_client, size, loud)]
                while answers[-1].status == 201:
                    check(len(answers) < 1_000, f'{what} have no limit')
                    answers.append(post(loud_client, size, loud))
                check_equal(answers[-1].status, 429, what)
                check_equal(post(quiet_client, size, quiet).status, 201, f'{what} of another key')
                check_equal(post(quiet_client, size, {}).status, 401, 'without a key')
                time.sleep(int(answers[-1].headers['Retry-After']))
                check_equal(post(loud_client, 10, loud).status, 201, 'at the told time')


def test_who_heeds_retry_after_is_served():
    """After 429 the next request at the told time succeeds, on the same connection."""
    with Cluster(directory_shards=0, disks=1,
                 sets=['gateway.requests_per_s_per_address=1']) as cluster:
        cluster.up()
        client = Client(cluster, '127.0.0.4')
        for _ in range(2):
            while (answer := client.ask('/' + 'A' * 18)).status == 404:
                pass
            check_equal(answer.status, 429, 'beyond the rate')
            time.sleep(int(answer.headers['Retry-After']))
            check_equal(client.ask('/' + 'A' * 18).status, 404, 'in time')


def test_s19_only_a_trusted_proxy_says_who_the_client_is():
    """X-Forwarded-For counts from 127.0.0.5 alone, and there its last entry that is not trusted."""
    with Cluster(directory_shards=0, disks=1, sets=['gateway.requests_per_s_per_address=1',
                                'gateway.trusted_proxies=127.0.0.5,10.0.0.0/8']) as cluster:
        cluster.up()
        proxy, stranger = Client(cluster, '127.0.0.5'), Client(cluster, '127.0.0.6')

        def statuses(client, lists):
            return [client.ask('/' + 'A' * 18, headers={'X-Forwarded-For': each}).status
                    for each in lists]
        many = [f'198.51.100.{i}' for i in range(20)]
        check_equal(statuses(proxy, many), [404] * 20, 'many clients of a proxy')
        check(429 in statuses(stranger, many), 'one who only says so')
        # What a client invents stands before what the proxy appends.
        check(429 in statuses(proxy, [f'{each}, 203.0.113.9, 10.1.2.3' for each in many]),
              'one client of the proxy that invents others')


def test_uploads_have_a_rate_of_bytes():
    """A whole file comes through, then 429 until the rate has made up for it."""
    with Cluster(directory_shards=0, disks=1, sets=['gateway.upload_bytes_max=20000',
                                'gateway.upload_bytes_per_s_per_address=20000']) as cluster:
        cluster.up()
        body = random_bytes(20_000)

        def upload(address):
            return Client(cluster, address).ask('/v1/files', 'POST', body)
        answers = [upload('127.0.0.7')]
        while answers[-1].status == 201:
            answers.append(upload('127.0.0.7'))
        check_equal(answers[-1].status, 429, 'beyond the rate')
        check(len(answers) >= 4, f'{len(answers) - 1} files of one second each came through')
        check_equal(upload('127.0.0.8').status, 201, 'another address')
        time.sleep(int(answers[-1].headers['Retry-After']))
        check_equal(upload('127.0.0.7').status, 201, 'at the told time')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
