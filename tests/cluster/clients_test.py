#!/usr/bin/env python3
"""Real clients read from a gateway: curl, wget, aria2. The bytes are equal, and each asks no more
often than it must: what reached the gateway is counted."""

import os

from fronts import OriginReads
from harness import Cluster, check, check_equal, main, random_bytes, run

MIB = 1 << 20
BODY = b'\x89PNG\r\n\x1a\n' + random_bytes(17 * MIB + 4_321, 1)
TEXT = b'<html>' + b'all work and no play makes jack a dull boy\n' * 3000


class Fixture(Cluster):
    """A cluster of two copies and two gateways that has BODY; files of clients in `at`."""

    def __enter__(self):
        super().__enter__()
        self.up()
        self.stored = self.upload(BODY)['id']
        self.url = f'http://{self.gateway}/{self.stored}'
        self.folder = os.path.join(self.dir, 'client')
        os.makedirs(self.folder)
        return self

    def at(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, body):
        with open(self.at(name), 'wb') as file:
            file.write(body)
        return self.at(name)

    def read(self, name):
        with open(self.at(name), 'rb') as file:
            return file.read()

    def curl(self, *words, **kwargs):
        return run('curl', '-sS', '-w', '%{http_code}', *words, **kwargs).stdout


def fixture():
    return Fixture(dataservers=2, disks=1, copies=2, gateways=2)


def check_file(cluster, name, wanted):
    check(cluster.read(name) == wanted, f'{name} has the bytes')


def test_curl_reads():
    """Whole, HEAD, ranges of each form, several files on one connection."""
    with fixture() as cluster:
        url = cluster.url
        check_equal(cluster.curl('-o', cluster.at('whole'), url + '.png'), '200', 'whole')
        check_file(cluster, 'whole', BODY)
        head = run('curl', '-sSI', url).stdout
        check(f'Content-Length: {len(BODY)}\n' in head.replace('\r', ''), head)
        for words, wanted in (('0-0', BODY[:1]), ('100-4199', BODY[100:4200]),
                              ('-5000', BODY[-5000:]), (f'{len(BODY) - 7}-', BODY[-7:]),
                              ('1000000-3500000', BODY[1_000_000:3_500_001])):
            check_equal(cluster.curl('-r', words, '-o', cluster.at('range'), url), '206', words)
            check_file(cluster, 'range', wanted)
        check_equal(cluster.curl('-r', '999999999-', '-o', '/dev/null', url), '416', 'beyond')
        with OriginReads(cluster) as reads:
            got = run('curl', '-sS', '-v', '-r', '0-9', *[url] * 5, text=False)
        check_equal(got.stdout, BODY[:10] * 5, 'five on one connection')
        check_equal(got.stderr.count(b'Re-using existing connection'), 4, 'the connection is kept')
        check_equal(reads.full, 5, 'reads')


def test_curl_resumes():
    """`-C -` behind what is there already; of a file that is whole nothing is sent."""
    with fixture() as cluster:
        for have in (1, 5 * MIB + 1, len(BODY) - 1):
            cluster.write('part', BODY[:have])
            with OriginReads(cluster) as reads:
                check_equal(cluster.curl('-C', '-', '-o', cluster.at('part'), cluster.url), '206',
                            f'resumed behind {have}')
            check_file(cluster, 'part', BODY)
            check_equal(reads.full, 1, 'reads')
        check_equal(cluster.curl('-C', '-', '-o', cluster.at('part'), cluster.url), '416',
                    'nothing is left')
        check_file(cluster, 'part', BODY)


def test_curl_conditions():
    """`-z` and the --etag options: what is known is not sent again."""
    with fixture() as cluster:
        url, tag, got = cluster.url, cluster.at('tag'), cluster.at('got')
        check_equal(cluster.curl('--etag-save', tag, '-R', '-o', got, url), '200', 'at first')
        check_equal(cluster.read('tag').strip(), f'"{cluster.stored}"'.encode(), 'the tag')
        with OriginReads(cluster) as reads:
            check_equal(cluster.curl('--etag-compare', tag, '-o', cluster.at('new'), url), '304',
                        'by tag')
            check_equal(cluster.curl('-z', got, '-o', cluster.at('new'), url), '304', 'by date')
        check_equal((reads.full, reads.revalidated), (0, 2), 'reads')
        check_equal(cluster.curl('-z', '2001-01-01', '-r', '0-9', '-o', cluster.at('new'), url),
                    '206', 'changed since')
        cluster.write('tag', b'"AAAAAAAAAAAAAAAAAA"')
        check_equal(cluster.curl('--etag-compare', tag, '-o', got, url), '200', 'another tag')
        check_file(cluster, 'got', BODY)


def test_curl_compressed():
    """--compressed offers what curl can undo; the bytes are the file's, whatever was chosen."""
    with fixture() as cluster:
        text = cluster.upload(TEXT, 'text/html')
        for path, wanted in ((cluster.stored, BODY), (text['id'], TEXT)):
            url = f'http://{cluster.gateway}/{path}'
            check_equal(cluster.curl('--compressed', '-o', cluster.at('got'), url), '200', 'whole')
            check_file(cluster, 'got', wanted)
            check_equal(cluster.curl('-H', 'Accept-Encoding: gzip;q=0, br', '-o',
                                     cluster.at('got'), url), '200', 'neither gzip nor br is here')
            check_file(cluster, 'got', wanted)


def test_wget_resumes():
    """wget as it is, `-c` behind a part, and `-N` for what has not changed."""
    with fixture() as cluster:
        wget = ['wget', '-q', '-P', cluster.folder]
        run(*wget, cluster.url)
        check_file(cluster, cluster.stored, BODY)
        with OriginReads(cluster) as reads:
            run(*wget, '-N', cluster.url)
        check_equal(reads.full, 0, 'reads of what has not changed')
        cluster.write(cluster.stored, BODY[:9 * MIB])
        with OriginReads(cluster) as reads:
            run(*wget, '-c', cluster.url)
            run(*wget, '-c', cluster.url)  # it is whole now
        check_file(cluster, cluster.stored, BODY)
        check_equal(reads.full, 1, 'reads of the rest')


def test_aria2_sixteen_connections():
    """16 connections take a part each, over two gateways; the parts make the file."""
    with fixture() as cluster:
        other = f'http://127.0.0.1:{cluster.port + 1}/{cluster.stored}'
        for name, urls in (('one', [cluster.url]), ('two', [cluster.url, other])):
            with OriginReads(cluster) as reads:
                run('aria2c', '-q', '--no-conf', '-x', 16, '-s', 16, '-k', '1M', '-d',
                    cluster.folder, '-o', name, '--file-allocation=none', *urls)
            check_file(cluster, name, BODY)
            print(f'aria2, {len(urls)} gateways: {reads.full} reads')
            check(16 <= reads.full <= 40, f'reads: {reads.full}')


if __name__ == '__main__':
    main([test_curl_reads, test_curl_resumes, test_curl_conditions, test_curl_compressed,
          test_wget_resumes, test_aria2_sixteen_connections])
