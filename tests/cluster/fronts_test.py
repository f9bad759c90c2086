#!/usr/bin/env python3
"""Real caches in front of two gateways and two copies: nginx, Varnish, Traffic Server; and HAProxy.

They run with the sample configurations of docs/fronts. What each test asserts of a cache is the
cache's own count of hits, and the exact number of reads that reached the gateways.
"""

import contextlib
import json
import os
import random
import shutil
import socket
import time

from fronts import (Haproxy, Nginx, OriginReads, Relay, SAMPLES, TrafficServer, Varnish,
                    gateway_addresses)
from harness import Cluster, check, check_equal, main, random_bytes, run, wait_until
from load import kill_for_good, measured
from rights_test import Keys

MIB = 1 << 20
SLICES = 9
BODY = random_bytes(8 * MIB + 12_345, 1)  # SLICES slices of nginx's


def two_of_all(sets=()):
    return Cluster(dataservers=2, disks=1, copies=2, gateways=2, sets=sets, directory_shards=0)


def get(cluster, front, file_id, headers=None):
    return cluster.request('GET', '/' + file_id, headers=headers, address=front.address)


def check_body(cluster, front, file_id, body, what):
    status, _, got = get(cluster, front, file_id)
    check_equal(status, 200, what)
    check(got == body, f'{what}: the bytes, {len(got)} of {len(body)}')


def check_ranges(cluster, front, file_id, body, count):
    """Random ranges, across slices too, and the ends."""
    choose = random.Random(1)
    spans = [sorted(choose.sample(range(len(body)), 2)) for _ in range(count)]
    for first, last in spans + [[0, 0], [len(body) - 1, len(body) - 1], [MIB - 1, MIB]]:
        status, headers, part = get(cluster, front, file_id,
                                    {'Range': f'bytes={first}-{last}'})
        check_equal((status, headers['Content-Range']),
                    (206, f'bytes {first}-{last}/{len(body)}'), 'a range')
        check(part == body[first:last + 1], f'the bytes of {first}-{last}')


def check_all_fields_pass(cluster, front):
    """As many bytes of fields as one file may have fit into what the front takes of a head."""
    fields = {f'X-Hayloft-{name}': name * 2_000 for name in 'abc'}
    status, _, answer = cluster.request('POST', '/v1/files', b'tagged', fields)
    check_equal(status, 201, 'an upload with fields')
    status, headers, _ = get(cluster, front, json.loads(answer)['id'])
    lower = {name.lower(): value for name, value in headers.items()}
    got = {name: lower.get(name.lower()) for name in fields}
    check_equal((status, got), (200, fields), 'a file with many fields')


def test_nginx_slices():
    """A long file costs one read a slice, then none; ranges are right to the byte."""
    with two_of_all() as cluster:
        cluster.up()
        stored = cluster.upload(BODY)['id']
        with Nginx(cluster) as nginx:
            with OriginReads(cluster) as reads:
                check_body(cluster, nginx, stored, BODY, 'the first time')
            check_equal((reads.full, reads.revalidated), (SLICES, 0), 'reads at first')
            with OriginReads(cluster) as reads:
                check_body(cluster, nginx, stored, BODY, 'from the cache')
                check_ranges(cluster, nginx, stored, BODY, 40)
            check_equal((reads.full, reads.revalidated), (0, 0), 'reads of what is in the cache')
            check_equal(nginx.statuses(), ['MISS'] + ['HIT'] * 44, "nginx's own word")
            other = cluster.upload(BODY[::-1])['id']
            with OriginReads(cluster) as reads:
                check_equal(get(cluster, nginx, other, {'Range': 'bytes=3000000-3000009'})[2],
                            BODY[::-1][3_000_000:3_000_010], 'a range of a file never read')
            check_equal(reads.full, 1, 'reads for a few bytes of a long file')
            check_equal(get(cluster, nginx, other, {'Range': 'bytes=99999999-'})[0], 416, 'beyond')
            check_equal(get(cluster, nginx, 'A' * 18)[0], 404, 'an unknown file')
            with OriginReads(cluster) as reads:  # many at once that miss make one request
                small = cluster.upload(BODY[:5_000])['id']
                run('curl', '-sSZ', '--parallel-max', 20, '--parallel-immediate', '-f',
                    '-o', '/dev/null', *[f'http://{nginx.address}/{small}?#[1-20]'], '-o',
                    '/dev/null')
            check_equal(reads.full, 1, 'reads for twenty at once')
            check_all_fields_pass(cluster, nginx)


def await_age(seconds):
    """Until what was fetched is older than its max-age; caches count in whole seconds."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, 'the age')


def test_nginx_revalidates():
    """What is too old is asked for with If-None-Match: a 304 for each slice, no bytes."""
    with two_of_all(['gateway.max_age_s=4']) as cluster:
        cluster.up()
        stored = cluster.upload(BODY)['id']
        with Nginx(cluster) as nginx:
            check_body(cluster, nginx, stored, BODY, 'at first')
            await_age(5.2)
            with OriginReads(cluster) as reads:
                check_body(cluster, nginx, stored, BODY, 'too old')
            check_equal((reads.full, reads.revalidated), (0, SLICES), 'reads of what was too old')
            with OriginReads(cluster) as reads:
                check_body(cluster, nginx, stored, BODY, 'fresh again')
            check_equal((reads.full, reads.revalidated), (0, 0), 'reads of what is fresh again')
            check_equal(nginx.statuses(), ['MISS', 'REVALIDATED', 'HIT'], "nginx's own word")


def pieces_of(client, wanted):
    received = b''
    while len(received) < wanted:
        piece = client.recv(1 << 16)
        check(piece, f'the connection ended after {len(received)} of {wanted}')
        received += piece
    return received


def pieces_until(client, done):
    """What comes until done(), and at least an answer's head."""
    received, end = b'', time.monotonic() + 30
    client.settimeout(0.1)
    while not done() or b'\r\n\r\n' not in received:
        check(time.monotonic() < end, f'it is held back, after {len(received)} bytes')
        with contextlib.suppress(TimeoutError):
            piece = client.recv(1 << 16)
            check(piece, 'the connection is kept')
            received += piece
    client.settimeout(30)
    return received


def kill_reading_dsp(cluster, before):
    """Of two dsps the one that has answered more reads since; returns the other."""
    dsps = cluster.processes('dsp')
    grown = {dsp['name']: measured(cluster, dsp, 'reads_total') - before[dsp['name']]
             for dsp in dsps}
    victim = max(dsps, key=lambda dsp: grown[dsp['name']])
    check(grown[victim['name']] > 0, f'a dsp has answered reads: {grown}')
    kill_for_good(cluster, victim)
    return [dsp for dsp in dsps if dsp['name'] != victim['name']][0]


def through_a_death(front_class, label):
    """A client takes a long file through the front; in the middle, the dsp that it comes from dies;
    the bytes are right, and come from both dsps."""
    with two_of_all() as cluster:
        cluster.up()
        body = random_bytes(24 * MIB + 77, 3)
        stored = cluster.upload(body)['id']
        first, second = gateway_addresses(cluster)
        with Relay(first, 3 * MIB // 2) as relay, Relay(second, 3 * MIB // 2) as other, \
                front_class(cluster, [relay.address, other.address]) as front, \
                socket.create_connection(('127.0.0.1', front.port), timeout=30) as client:
            before = {dsp['name']: measured(cluster, dsp, 'reads_total')
                      for dsp in cluster.processes('dsp')}
            with OriginReads(cluster) as reads:
                client.sendall(f'GET /{stored} HTTP/1.1\r\nHost: h\r\n\r\n'.encode())
                received = pieces_until(client, lambda: relay.held.is_set() or other.held.is_set())
                head_bytes = received.index(b'\r\n\r\n') + 4
                check(received.startswith(b'HTTP/1.1 200'), received[:100])
                survivor = kill_reading_dsp(cluster, before)
                at_death = measured(cluster, survivor, 'reads_total')
                relay.go.set()
                other.go.set()
                received += pieces_of(client, head_bytes + len(body) - len(received))
            check(received[head_bytes:] == body, 'the bytes, of both replicas')
            after = measured(cluster, survivor, 'reads_total') - at_death
            print(f'{label}: {after:.0f} reads of the other replica after the death')
            check(after > 0, 'the other replica took over')
            with OriginReads(cluster) as again:
                check_body(cluster, front, stored, body, 'from the cache')
                check_ranges(cluster, front, stored, body, 10)
            check_equal((again.full, again.revalidated), (0, 0), 'reads of what is in the cache')
            return reads.full


def test_nginx_while_a_dsp_dies():
    """F13: each slice is one read, also of those that the dead one could not answer."""
    check_equal(through_a_death(Nginx, 'nginx'), 25, 'reads of 25 slices')


def test_varnish_while_a_dsp_dies():
    """F13: the one fetch goes on from the other replica."""
    check_equal(through_a_death(Varnish, 'varnish'), 1, 'reads of one file')


def test_varnish():
    """Hits, ranges out of the whole, revalidation by 304, errors that are not kept."""
    with two_of_all(['gateway.max_age_s=5']) as cluster:
        cluster.up()
        stored = cluster.upload(BODY)
        path = stored['id']
        with Varnish(cluster) as varnish:
            with OriginReads(cluster) as reads:
                check_body(cluster, varnish, path, BODY, 'the first time')
            fetched = time.monotonic()
            check_equal((reads.full, reads.revalidated), (1, 0), 'reads at first')
            with OriginReads(cluster) as reads:
                check_ranges(cluster, varnish, path, BODY, 10)
            check(time.monotonic() < fetched + 4.5, 'quick enough to be fresh')
            check_equal((reads.full, reads.revalidated), (0, 0), 'reads of what is in the cache')
            check_equal(varnish.counter('MAIN.cache_hit'), 13, "Varnish's own count")
            # Old, but within its grace: the old one is served at once, the 304 comes behind it.
            await_age(max(0, fetched + 6.2 - time.monotonic()))
            with OriginReads(cluster) as reads:
                check_body(cluster, varnish, path, BODY, 'an old one')
                wait_until(lambda: reads.counts()[1] > reads.before[1], 'the 304')
            check_equal((reads.full, reads.revalidated), (0, 1), 'reads of what was too old')
            check_equal(varnish.counter('MAIN.cache_hit_grace'), 1, "Varnish's own count")
            unknown = 'A' * 18
            check_equal([get(cluster, varnish, unknown)[0] for _ in range(2)], [404, 404],
                        'an unknown file')
            misses = varnish.counter('MAIN.cache_hitmiss')
            check_equal(misses, 1, "errors are hit-for-miss by Varnish's own count")
            token = {'Hayloft-Delete-Token': stored['delete_token']}
            check_equal(cluster.request('DELETE', '/v1/files/' + path, headers=token,
                                        address=varnish.address)[0], 204, 'a delete goes through')
            check_all_fields_pass(cluster, varnish)


def test_haproxy_balances():
    """Uploads and reads through HAProxy, also when a gateway dies between them."""
    run('haproxy', '-c', '-f', os.path.join(SAMPLES, 'haproxy.cfg'))
    with two_of_all() as cluster:
        cluster.up()
        with Haproxy(cluster) as haproxy:
            wait_until(lambda: cluster.request('GET', '/readyz', address=haproxy.address)[0] == 200,
                       'HAProxy finds a gateway')
            status, _, answer = cluster.request('POST', '/v1/files', BODY,
                                                address=haproxy.address)
            check_equal(status, 201, 'an upload')
            path = '/' + json.loads(answer)['id']
            for _ in range(4):
                check(cluster.request('GET', path, address=haproxy.address)[2] == BODY, 'the bytes')
            check_all_fields_pass(cluster, haproxy)
            cluster.kill(cluster.process('gateway-1'))
            for _ in range(6):
                check_equal(cluster.request('GET', path, address=haproxy.address)[0], 200,
                            'a read after a gateway died')


def test_trafficserver():
    """A file and a range of it are read once each; uploads go through; a gateway may die."""
    with two_of_all() as cluster:
        cluster.up()
        stored = cluster.upload(BODY)['id']
        with TrafficServer(cluster) as front:
            def is_kept(**headers):  # it ends writing to its cache after it has answered
                asked = {'Cache-Control': 'only-if-cached', **headers}
                return get(cluster, front, stored, asked)[0] in (200, 206)

            with OriginReads(cluster) as reads:
                check_body(cluster, front, stored, BODY, 'the file')
                wait_until(is_kept, 'the file is in the cache')
                check_body(cluster, front, stored, BODY, 'the file again')
                for _ in range(2):
                    check_equal(get(cluster, front, stored, {'Range': 'bytes=5-9'})[2], BODY[5:10],
                                'a range')
                    wait_until(lambda: is_kept(Range='bytes=5-9'), 'the range is in the cache')
            check_equal((reads.full, reads.revalidated), (2, 0), 'reads')
            check_all_fields_pass(cluster, front)
            status, _, answer = cluster.request('POST', '/v1/files', BODY, address=front.address)
            check_equal(status, 201, 'an upload')
            cluster.kill(cluster.process('gateway-1'))
            path = json.loads(answer)['id']
            for first in (1, 2, 3, 4):  # each another key of its cache
                check_equal(get(cluster, front, path, {'Range': f'bytes={first}-9'})[2],
                            BODY[first:10], 'a read after a gateway died')


def test_signed_urls_expire():
    """No front sends a file by a signed URL that has expired, not even while no gateway answers."""
    keys = Keys()
    try:
        with two_of_all([f'gateway.signing_keys={keys.dir}/signing']) as cluster:
            cluster.up()
            answer = cluster.request('POST', keys.url('POST', '/v1/files'), b'for a while')[2]
            path = '/' + json.loads(answer)['id']
            with Nginx(cluster) as nginx, Varnish(cluster) as varnish, \
                    TrafficServer(cluster) as traffic_server:
                fronts = (nginx, varnish, traffic_server)
                url = keys.url('GET', path, life_s=4)

                def statuses():
                    return [cluster.request('GET', url, address=front.address)[0]
                            for front in fronts]
                for _ in range(2):
                    check_equal(statuses(), [200] * 3, 'while it lives')
                for gateway in cluster.processes('gateway'):
                    cluster.kill(gateway)
                wait_until(lambda: 200 not in statuses(), 'none sends it any more', 20)
    finally:
        shutil.rmtree(keys.dir)


if __name__ == '__main__':
    main([test_nginx_slices, test_nginx_revalidates, test_nginx_while_a_dsp_dies, test_varnish,
          test_varnish_while_a_dsp_dies, test_haproxy_balances, test_trafficserver,
          test_signed_urls_expire])
