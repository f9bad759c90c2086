#!/usr/bin/env python3
"""Upload keys and signed URLs against a running gateway (S08, S14, S15, S18).

The URLs are signed here, by Python's own hmac, not by the code that checks them.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import tempfile
import time

from harness import (Cluster, admin_address, check, check_equal, main, metric, random_bytes, run,
                     wait_until)
from tls_test import TlsCluster

UNKNOWN = 'A' * 18
PNG = b'\x89PNG\r\n\x1a\n' + random_bytes(992, 1)


def text_of(data):
    return base64.urlsafe_b64encode(data).decode().rstrip('=')


def signed(secret, method, path, key='one', life_s=600, limit='', file_type='', nonce=''):
    """`path` with the query of a signed URL, as docs/http.md says it is made."""
    expires = int(time.time()) + life_s
    text = f'hayloft-url-v1\n{method}\n{path}\n{expires}\n{limit}\n{file_type}\n{nonce}\n{key}\n'
    query = [f'hl-key={key}', f'hl-expires={expires}']
    query += [f'hl-{name}={value}' for name, value in (('limit', limit), ('type', file_type),
                                                       ('nonce', nonce)) if value]
    mac = hmac.digest(secret, text.encode(), 'sha256')
    return f'{path}?{"&".join(query)}&hl-sig={text_of(mac)}'


class Keys:
    """Key files in a folder of their own, and the secrets that are in them."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='hayloft-test-keys-')
        self.upload = 'hlk_' + text_of(random_bytes(32))
        self.secrets = {'one': random_bytes(32)}
        self.write('upload', f'shop {hashlib.sha256(self.upload.encode()).hexdigest()}\n')
        self.write_secrets()
        self.sets = [f'gateway.upload_keys={self.dir}/upload',
                     f'gateway.signing_keys={self.dir}/signing',
                     f'gateway.access_log={self.dir}/access.log']
        self.bearer = {'Authorization': 'Bearer ' + self.upload}

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w',
                  encoding='utf-8') as file:
            file.write(text)

    def write_secrets(self):
        self.write('signing', '# for URLs\n' + ''.join(
            f'{name} {text_of(secret)}\n' for name, secret in self.secrets.items()))

    def access_lines(self):
        path = os.path.join(self.dir, 'access.log')
        with open(path, encoding='ascii') as file:
            return file.read().splitlines()

    def url(self, method, path, key='one', **kwargs):
        return signed(self.secrets[key], method, path, key, **kwargs)


@contextlib.contextmanager
def fixture(make, *sets):
    """A cluster whose gateway has keys."""
    keys = Keys()
    try:
        with make(keys.sets + list(sets)) as cluster:
            cluster.up()
            yield cluster, keys
    finally:
        shutil.rmtree(keys.dir, ignore_errors=True)


def usual(sets):
    return Cluster(disks=1, sets=sets)


def plain(sets):
    """Equal bytes are files of their own: an upload is 201, whatever was uploaded before."""
    return Cluster(disks=1, sets=sets, directory_shards=0)


def upload(cluster, keys):
    status, _, answer = cluster.request('POST', '/v1/files', PNG, keys.bearer)
    check_equal(status, 201, 'an upload with a key')
    return json.loads(answer)


def error(answer):
    return json.loads(answer[2])['error']


def test_guessing_ids_tells_nothing():
    """S08: a wrong cookie and a missing file get the same bytes; no path leaves the store."""
    with fixture(plain) as (cluster, keys):
        stored = upload(cluster, keys)

        def ask(method, target):
            with socket.create_connection(('127.0.0.1', cluster.port), timeout=30) as client:
                client.sendall(f'{method} {target} HTTP/1.1\r\nHost: h\r\nX-Request-Id: same\r\n'
                               'Connection: close\r\n\r\n'.encode())
                received = b''
                while piece := client.recv(1 << 16):
                    received += piece
            return [line for line in received.split(b'\r\n') if not line.startswith(b'Date: ')]

        raw = base64.urlsafe_b64decode(stored['id'] + '==')
        wrong = [text_of(raw[:8] + bytes(byte ^ 1 << bit for byte in raw[8:]))  # in the cookie
                 for bit in range(8)]
        wrong.append(text_of(raw[:5] + b'\xff\xff\xff' + raw[8:]))  # no such needle
        check_equal({len(each) for each in wrong}, {18}, 'the length of an id')
        for path in ('/{}', '/{}.png', '/v1/files/{}'):
            for method in ('GET', 'HEAD'):
                missing = ask(method, path.format(UNKNOWN))
                check(missing[0].startswith(b'HTTP/1.1 404 '), missing[0])
                for each in wrong:
                    check_equal(ask(method, path.format(each)), missing, path.format(each))
        for path in ('/../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/..%2fsecret', '//etc/passwd',
                     f'/v1/files/../{stored["id"]}', f'/%2f{stored["id"]}', '/..', '/v1/files/..',
                     f'/{stored["id"]}/../{stored["id"]}', f'/v1/files/{stored["id"]}%2fundelete'):
            check(ask('GET', path)[0][:12] in (b'HTTP/1.1 400', b'HTTP/1.1 404'), path)


def matrix(cluster, keys, stored):
    """{(verb, what is shown): status} of every verb with each right, and those that are none."""
    file, token = '/v1/files/' + stored['id'], {'Hayloft-Delete-Token': stored['delete_token']}
    other = '/v1/files/' + UNKNOWN
    verbs = {'upload': ('POST', '/v1/files', PNG, {}),
             'read': ('GET', '/' + stored['id'], None, {}),
             'head': ('HEAD', '/' + stored['id'] + '.png', None, {}),
             'json': ('GET', file, None, {}),
             'delete': ('DELETE', file, None, {}),
             'delete with token': ('DELETE', file, None, token),
             'undelete': ('POST', file + '/undelete', b'', {}),
             'undelete with token': ('POST', file + '/undelete', b'', token)}
    got = {}
    for verb, (method, path, body, fields) in verbs.items():
        of = 'GET' if method == 'HEAD' else method
        forged = keys.url(of, path)
        shown = {'nothing': (path, {}),
                 'key': (path, keys.bearer),
                 'wrong key': (path, {'Authorization': 'Bearer hlk_' + 'A' * 43}),
                 'its hash': (path, {'Authorization': 'Bearer ' + hashlib.sha256(
                     keys.upload.encode()).hexdigest()}),
                 'URL': (keys.url(of, path), {}),
                 'of other method': (keys.url('DELETE' if of != 'DELETE' else 'GET', path), {}),
                 'of other path': (path + '?' + keys.url(of, other).partition('?')[2], {}),
                 'of unknown key': (signed(keys.secrets['one'], of, path, 'two'), {}),
                 'expired': (keys.url(of, path, life_s=-1), {}),
                 'cut': (forged[:-1], {}),
                 'changed': (forged.replace('hl-expires=1', 'hl-expires=2'), {}),
                 'bad URL and key': (path + '?hl-sig=x', keys.bearer)}
        for what, (target, right) in shown.items():
            got[verb, what] = cluster.request(method, target, body, {**fields, **right})[0]
    return got


def test_each_verb_needs_its_own_right():
    """S14: every verb with every right and what is none; the admin port is another one."""
    with fixture(plain, 'gateway.signed_reads=true') as (cluster, keys):
        stored = upload(cluster, keys)
        wanted = {}
        for verb, nothing, key, wrong, url in (
                ('upload', 401, 201, 403, 201),
                ('read', 403, 403, 403, 200),
                ('head', 403, 403, 403, 200),
                ('json', 401, 200, 403, 200),
                # Neither a key nor a URL replaces the delete token, which needs neither.
                ('delete', 401, 401, 401, 401),
                ('delete with token', 204, 204, 204, 204),
                ('undelete', 401, 401, 401, 401),
                ('undelete with token', 200, 200, 200, 200)):
            wanted |= {(verb, 'nothing'): nothing, (verb, 'key'): key, (verb, 'wrong key'): wrong,
                       (verb, 'its hash'): wrong, (verb, 'URL'): url, (verb, 'expired'): 410}
            wanted |= {(verb, what): 403
                       for what in ('of other method', 'of other path', 'of unknown key', 'cut',
                                    'changed', 'bad URL and key')}
        got = matrix(cluster, keys, stored)
        check_equal({each: status for each, status in got.items() if status != wanted[each]}, {},
                    'answers that differ from what is wanted')
        check_equal(len(got), len(wanted), 'the table is whole')
        preflight = {'Origin': 'https://x.example', 'Access-Control-Request-Method': 'GET'}
        for path in ('/v1/files', '/' + stored['id']):
            check_equal(cluster.request('OPTIONS', path, headers=preflight)[0], 204, path)
        for path in ('/healthz', '/readyz'):
            check_equal(cluster.request('GET', path)[0], 200, path)
        for path in ('/metrics', '/version', '/v1/metrics', '/metrics/'):
            status, _, body = cluster.request('GET', path, headers=keys.bearer)
            check(status == 404 and b'hayloft_' not in body, f'{path}: {status}')
        # A frame of the cluster's own wire is no request.
        with socket.create_connection(('127.0.0.1', cluster.port), timeout=30) as client:
            client.sendall(b'HFR1' + bytes(60) + b'\r\n\r\n')
            check(client.recv(4096).startswith(b'HTTP/1.1 400 '), 'a frame')


def test_signed_urls():
    """S15: replay, limit, type, and keys that are changed while the gateway runs."""
    with fixture(plain) as (cluster, keys):
        def post(target, body=PNG, **headers):
            return cluster.request('POST', target, body, headers)

        def chunks(*sizes):
            return iter([PNG[:size] for size in sizes])

        once = keys.url('POST', '/v1/files', limit=1000, nonce='only-once')
        check_equal(post(once, PNG + b'x')[0], 413, 'too long; that does not count as use')
        check_equal(post(once)[0], 201, 'the first time')
        check_equal({(again[0], error(again)) for again in (post(once) for _ in range(6))},
                    {(403, 'spent')}, 'replays')
        for sizes, status in (((900, 100), 201), ((900, 101), 413)):
            check_equal(post(keys.url('POST', '/v1/files', limit=1000), chunks(*sizes))[0], status,
                        f'chunked, {sizes}')
        images = keys.url('POST', '/v1/files', file_type='image/*')
        check_equal(post(images)[0], 201, 'an image')
        check_equal(post(images, b'<html>', **{'Content-Type': 'image/png'})[0], 415, 'a page')
        # A new key beside the old one; then the old one goes.
        gateway = cluster.process('gateway-1')
        keys.secrets['two'] = random_bytes(32)
        first, second = (keys.url('POST', '/v1/files', each) for each in ('one', 'two'))
        check_equal((post(first)[0], post(second)[0]), (201, 403), 'before')

        def reload(*wanted):
            keys.write_secrets()
            cluster.kill(gateway, signal.SIGHUP)
            wait_until(lambda: all((post(first)[0], post(second)[0]) == wanted for _ in range(4)),
                       f'{wanted} after SIGHUP')

        reload(201, 201)
        del keys.secrets['one']
        reload(403, 201)
        keys.write('signing', 'damaged\n')
        cluster.kill(gateway, signal.SIGHUP)
        wait_until(lambda: 'keys_not_loaded' in cluster.log('gateway-1'), 'a word in the log')
        check_equal((post(first)[0], post(second)[0]), (403, 201), 'damaged files change nothing')
        shared = os.path.join(keys.dir, 'signing')
        keys.write_secrets()
        os.chmod(shared, 0o644)
        command = [word for word in command_of(gateway) if 'listen=' not in word]
        refused = run(*command, '--listen=127.0.0.1:0', '--admin-listen=', wanted=78)
        check(f'signing_keys: {shared} is open to other users' in refused.stderr, refused.stderr)


def command_of(process):
    with open(f'/proc/{process["pid"]}/cmdline', encoding='utf-8') as file:
        return file.read().rstrip('\0').split('\0')


def places(cluster, keys):
    """(name, text) of all that a secret may get out by."""
    for folder, _, names in os.walk(os.path.join(cluster.dir, 'log')):
        for name in names:
            with open(os.path.join(folder, name), encoding='utf-8', errors='replace') as file:
                yield name, file.read()
    yield 'access.log', '\n'.join(keys.access_lines())
    for process in cluster.processes():
        for what in ('cmdline', 'environ'):
            with open(f'/proc/{process["pid"]}/{what}', encoding='utf-8', errors='replace') as file:
                yield f'{what} of {process["name"]}', file.read()
        answer = cluster.request('GET', '/metrics', address=admin_address(process))
        yield f'metrics of {process["name"]}', answer[2].decode()


def lines_of(path):
    """Those of a PEM or key file that hold a part of the secret."""
    with open(path, encoding='ascii') as file:
        return [line.strip() for line in file if not line.startswith('-') and len(line) > 20]


def test_no_secret_gets_out():
    """S18: canaries in use, rightly and wrongly: in no log, metric, argument or environment."""
    with fixture(TlsCluster, 'gateway.log_level=debug') as (cluster, keys):
        stored, token = upload(cluster, keys), 'Hayloft-Delete-Token'
        file = '/v1/files/' + stored['id']
        wrong_key, wrong_token = 'hlk_' + text_of(random_bytes(32)), text_of(random_bytes(49))
        read = keys.url('GET', '/' + stored['id'])
        once = keys.url('POST', '/v1/files', nonce='canary-of-a-nonce')
        expired = keys.url('POST', '/v1/files', life_s=-5)
        uses = [(201, 'POST', once, PNG, {}), (403, 'POST', once, PNG, {}),
                (410, 'POST', expired, PNG, {}), (200, 'GET', read, None, {'Referer': read}),
                (200, 'GET', read + '&' + text_of(b'a bare value, as a canary'), None, {}),
                (404, 'GET', '/a/b/c' + read[19:], None, {}),
                (405, 'PUT', read, b'', {}), (403, 'GET', read.replace('=', '!'), None, {}),
                (401, 'POST', '/v1/files', PNG, {'Authorization': 'Basic ' + wrong_key}),
                (403, 'POST', '/v1/files', PNG, {'Authorization': 'Bearer ' + wrong_key}),
                (415, 'POST', '/v1/files', PNG, {**keys.bearer, 'Content-Encoding': 'gzip'}),
                (403, 'DELETE', file, None, {token: wrong_token}),
                (204, 'DELETE', file, None, {token: stored['delete_token']}),
                (200, 'POST', file + '/undelete', b'', {token: stored['delete_token']})]
        for status, method, target, body, headers in uses:
            check_equal(cluster.request(method, target, body, headers)[0], status,
                        f'{method} {target} {headers}')
        with cluster.connect() as client:  # what cannot be parsed
            client.sendall(f'Authorization: Bearer {keys.upload}\r\n\r\n'.encode())
            check(client.recv(4096).startswith(b'HTTP/1.1 400 '), 'a malformed request')
        cluster.reload()
        wait_until(lambda: cluster.log('gateway-1').count('keys_loaded') >= 2, 'keys are reloaded')
        wait_until(lambda: len(keys.access_lines()) == len(uses) + 2, 'a line for each')
        lines = keys.access_lines()
        check(any(' - shop [' in line for line in lines), lines)
        check(any(' - one [' in line and 'hl-sig=*' in line for line in lines), lines)
        secret = keys.secrets['one']
        canaries = {keys.upload, wrong_key, stored['delete_token'], wrong_token, text_of(secret),
                    secret.hex(), 'canary-of-a-nonce', text_of(b'a bare value, as a canary'),
                    *(url.rpartition('=')[2] for url in (read, once, expired)),
                    hashlib.sha256(keys.upload.encode()).hexdigest(), *lines_of(cluster.key),
                    *lines_of(os.path.join(cluster.dir, 'secret'))}
        check(len(canaries) >= 14, canaries)
        seen = 0
        for name, text in places(cluster, keys):
            found = [canary for canary in canaries if canary in text]
            check_equal(found, [], f'secrets in {name}')
            seen += 1
        check(seen > 3 * len(cluster.processes()), f'{seen} places')
        values = cluster.metrics()
        for name, count in (('missing', 1), ('wrong', 2), ('expired', 1), ('spent', 1)):
            check_equal(metric(values, f'hayloft_gateway_rights_{name}_total'), count, name)


if __name__ == '__main__':
    main([test_guessing_ids_tells_nothing, test_each_verb_needs_its_own_right, test_signed_urls,
          test_no_secret_gets_out])
