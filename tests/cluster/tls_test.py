#!/usr/bin/env python3
"""HTTPS on the gateway's port: what it speaks, what it refuses, and new certificates (S01, S17)."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import tempfile

from harness import (Cluster, check, check_equal, main, metric, random_bytes, run,
                     wait_until)


class TlsCluster(Cluster):
    """A cluster whose gateway has a certificate, in a folder beside the cluster's."""

    def __init__(self, sets=(), days=365):
        self.keys = tempfile.mkdtemp(prefix='hayloft-test-tls-')
        self.certificate = os.path.join(self.keys, 'certificate.pem')
        self.key = os.path.join(self.keys, 'key.pem')
        self.make_certificate('first', days)
        super().__init__(disks=1, directory_shards=0,
                         sets=(f'gateway.tls_certificate={self.certificate}',
                               f'gateway.tls_key={self.key}') + tuple(sets))

    def __exit__(self, *args):
        super().__exit__(*args)
        shutil.rmtree(self.keys, ignore_errors=True)

    def make_certificate(self, name, days=365):
        """A self-signed one; with `days` below 0 it has expired."""
        authority = ['-x509', '-days', days]
        if days < 0:
            authority = []
        request = os.path.join(self.keys, 'request.pem')
        run('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
            '-keyout', self.key, '-out', self.certificate if authority else request,
            '-subj', f'/CN={name}', '-addext', 'subjectAltName=IP:127.0.0.1', *authority)
        if not authority:
            self.sign_expired(request)
        os.chmod(self.key, 0o600)

    def sign_expired(self, request):
        config = os.path.join(self.keys, 'ca.cnf')
        with open(config, 'w', encoding='utf-8') as file:
            file.write('[ca]\ndefault_ca=d\n[d]\npolicy=p\ndefault_md=sha256\n'
                       f'database={self.keys}/index\nserial={self.keys}/serial\n'
                       f'new_certs_dir={self.keys}\n[p]\ncommonName=supplied\n')
        open(os.path.join(self.keys, 'index'), 'w', encoding='utf-8').close()
        run('openssl', 'ca', '-batch', '-config', config, '-selfsign', '-keyfile', self.key,
            '-in', request, '-out', self.certificate, '-create_serial', '-notext',
            '-startdate', '20200101000000Z', '-enddate', '20210101000000Z')

    def context(self, **attributes):
        """Trusts any certificate: who signed is not what is tested."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for name, value in attributes.items():
            setattr(context, name, value)
        return context

    def socket(self):
        host, port = self.gateway.split(':')
        return socket.create_connection((host, int(port)), timeout=30)

    def connect(self, **attributes):
        return self.context(**attributes).wrap_socket(self.socket())

    def request(self, method, path, body=None, headers=None, address=None, timeout=30):
        if address is not None:
            return super().request(method, path, body, headers, address, timeout)
        connection = http.client.HTTPSConnection(self.gateway, timeout=timeout,
                                                 context=self.context())
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def metrics(self):
        with open(f'/proc/{self.process("gateway-1")["pid"]}/cmdline', encoding='utf-8') as file:
            admin = re.search(r'--admin-listen=([^\0]+)', file.read())[1]
        return self.request('GET', '/metrics', address=admin)[2].decode()

    def s_client(self, *words, wanted=None):
        done = run('openssl', 's_client', '-connect', self.gateway, *words, wanted=wanted,
                   input='')
        return done.stdout + done.stderr

    def name_of_certificate(self):
        return re.search(r'subject=CN = (\S+)', self.s_client())[1]

    def reload(self):
        self.kill(self.process('gateway-1'), signal.SIGHUP)


def head(path, extra=''):
    return f'GET {path} HTTP/1.1\r\nHost: h\r\n{extra}\r\n'.encode()


def read_answer(stream):
    """(head, body) of one answer with a Content-Length."""
    received = b''
    while b'\r\n\r\n' not in received:
        piece = stream.recv(1 << 16)
        check(piece, 'the answer comes')
        received += piece
    before, _, body = received.partition(b'\r\n\r\n')
    length = int(re.search(rb'Content-Length: (\d+)', before)[1])
    while len(body) < length:
        piece = stream.recv(1 << 16)
        check(piece, f'the body comes: {len(body)} of {length}')
        body += piece
    return before, body


def ends(stream):
    """How the server ended: 'close_notify', 'cut' without one, or a reset."""
    stream.suppress_ragged_eofs = False
    try:
        while stream.recv(1 << 16):
            pass
    except ssl.SSLEOFError:
        return 'cut'
    except (ConnectionResetError, ssl.SSLError) as error:
        return f'reset: {error}'
    return 'close_notify'


def test_protocols():
    """S17: TLS 1.2 and 1.3, strong ciphers, ALPN http/1.1, tickets; nothing else."""
    with TlsCluster() as cluster:
        cluster.up()
        body = random_bytes(3 << 20, 1)
        path = '/' + cluster.upload(body, 'image/jpeg')['id']
        check_equal(cluster.download(path[1:]), body, 'the bytes')
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = cluster.context(minimum_version=version, maximum_version=version)
            with context.wrap_socket(cluster.socket()) as client:
                client.sendall(head(path) + head(path))  # pipelined: most is left of one record
                check_equal([read_answer(client)[1] == body for _ in range(2)], [True, True],
                            f'two answers by {client.version()}')
                check('GCM' in client.cipher()[0] or 'CHACHA' in client.cipher()[0],
                      f'a strong cipher: {client.cipher()}')
                check(client.compression() is None, 'no compression')
                session = client.session
            with context.wrap_socket(cluster.socket(), session=session) as client:
                client.sendall(head(path))
                read_answer(client)
                check(client.session_reused, f'a session of {client.version()} is resumed')
        for old in ('-tls1', '-tls1_1'):
            refused = cluster.s_client(old, '-cipher', 'ALL:@SECLEVEL=0')
            check('protocol version' in refused or 'no protocols' in refused, refused)
            check('Cipher is (NONE)' in refused, f'{old} is refused')
        for weak in ('AES128-SHA', 'ECDHE-ECDSA-AES128-SHA', 'NULL:@SECLEVEL=0'):
            check('Cipher is (NONE)' in cluster.s_client('-tls1_2', '-cipher', weak), weak)
        check('ALPN protocol: http/1.1' in cluster.s_client('-alpn', 'h2,http/1.1'), 'ALPN')
        check('no application protocol' in cluster.s_client('-alpn', 'h2'), 'h2 alone')
        check('Secure Renegotiation IS supported' in cluster.s_client('-tls1_2'), 'RFC 5746')
        renegotiated = run('openssl', 's_client', '-tls1_2', '-connect', cluster.gateway,
                           wanted=None, input='R\n')
        check('no renegotiation' in renegotiated.stderr, renegotiated.stderr[-300:])
        text = cluster.metrics()
        check_equal(metric(text, 'hayloft_gateway_http_tls_resumed_total'), 2, 'resumed sessions')
        check(metric(text, 'hayloft_gateway_http_tls_failures_total') >= 6, 'failures are counted')


def test_curl_verifies():
    """curl trusts the certificate by --cacert, uploads and reads."""
    with TlsCluster() as cluster:
        cluster.up()
        url = f'https://{cluster.gateway}'
        body = random_bytes(100_000, 1)
        curl = ['curl', '-sS', '--cacert', cluster.certificate]
        stored = json.loads(run(*curl, '--data-binary', '@-', f'{url}/v1/files', input=body,
                                text=False).stdout)
        got = run(*curl, f'{url}/{stored["id"]}', text=False)
        check_equal(got.stdout, body, 'the bytes')


def test_plain_http():
    """Plain HTTP on the TLS port gets a readable 400, plain as well."""
    with TlsCluster() as cluster:
        cluster.up()
        with cluster.socket() as client:
            client.sendall(head('/healthz'))
            before, body = read_answer(client)
            check(before.startswith(b'HTTP/1.1 400 '), before)
            check(b'X-Request-Id: ' in before, 'X-Request-Id')
            check(b'HTTPS' in body, body)
        text = cluster.metrics()
        check_equal(metric(text, 'hayloft_gateway_http_tls_plain_http_total'), 1, 'counted')


def test_slow_clients():
    """S01 over TLS: slow handshake, head and body, and readers that never read, all end."""
    sets = ('gateway.header_timeout_ms=1000', 'gateway.idle_timeout_ms=2000',
            'gateway.body_window_ms=1000', 'gateway.read_timeout_ms=20000')
    with TlsCluster(sets=sets) as cluster:
        cluster.up()
        path = '/' + cluster.upload(random_bytes(30 << 20, 1), 'image/jpeg')['id']
        hello = cluster.socket()
        hello.sendall(b'\x16\x03\x01\x02\x00')  # the begin of a handshake record
        silent = cluster.socket()
        slow_head = cluster.connect()
        slow_head.sendall(b'GET / HTTP/1.1\r\n')
        slow_body = cluster.connect()
        slow_body.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nx')
        reader = cluster.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader = cluster.context().wrap_socket(reader)
        reader.sendall(head(path))
        idle = cluster.connect()
        for name, plain in (('half a hello', hello), ('nothing at all', silent)):
            check_equal(plain.recv(100), b'', name)
        for name, stream in (('head', slow_head), ('body', slow_body)):
            before, _ = read_answer(stream)
            check(before.startswith(b'HTTP/1.1 408 '), f'{name}: {before}')
            check_equal(ends(stream), 'close_notify', f'the end after a slow {name}')
        check_equal(ends(idle), 'close_notify', 'the end of an idle connection')
        wait_until(lambda: metric(cluster.metrics(), 'hayloft_gateway_http_slow_clients_total')
                   == 5, 'all five are counted')
        check_equal(metric(cluster.metrics(), 'hayloft_gateway_http_tls_failures_total'), 2,
                    'handshakes given up')
        check(ends(reader) != 'close_notify', 'a cut answer is not ended in order')


def test_ends():
    """A client's close_notify is a half-close; what is cut off stores nothing."""
    with TlsCluster() as cluster:
        cluster.up()
        body = random_bytes(50_000, 1)
        post = (b'POST /v1/files HTTP/1.1\r\nHost: h\r\nConnection: close\r\n'
                b'Transfer-Encoding: chunked\r\n\r\n')
        chunk = b'%x\r\n%s\r\n' % (len(body), body)
        with cluster.connect() as client:
            client.sendall(post + chunk)
            # The bytes end here, without close_notify and without the last chunk.
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):  # raw bytes: to Python there is no TLS any more
                pass
        # close_notify by `openssl s_client` when its input ends; the answer still comes.
        done = run('openssl', 's_client', '-quiet', '-connect', cluster.gateway, wanted=None,
                   input=post + chunk + b'0\r\n\r\n', text=False)
        check(done.stdout.startswith(b'HTTP/1.1 201 '), done.stdout[:200])
        check_equal(metric(cluster.metrics(), 'hayloft_gateway_uploads_total'), 1, 'uploads')
        with cluster.connect() as client:
            client.sendall(head('/healthz', 'Connection: close\r\n'))
            read_answer(client)
            check_equal(ends(client), 'close_notify', 'the end after the last answer')


def test_reload():
    """S17: SIGHUP takes a new certificate; a download goes on; a bad one changes nothing."""
    with TlsCluster() as cluster:
        cluster.up()
        body = random_bytes(30 << 20, 1)
        path = '/' + cluster.upload(body, 'image/jpeg')['id']
        check_equal(cluster.name_of_certificate(), 'first', 'the certificate')
        reader = cluster.connect()
        reader.sendall(head(path))
        begin = reader.recv(1000)
        cluster.make_certificate('second')
        cluster.reload()
        wait_until(lambda: cluster.name_of_certificate() == 'second', 'the new certificate')
        with open(cluster.certificate, 'w', encoding='utf-8') as file:
            file.write('nonsense')
        cluster.reload()
        wait_until(lambda: 'tls_certificate_not_loaded' in cluster.log('gateway-1'), 'an error')
        check_equal(cluster.name_of_certificate(), 'second', 'the old certificate is kept')
        cluster.make_certificate('third')
        os.chmod(cluster.key, 0o644)
        cluster.reload()
        wait_until(lambda: 'open to other users' in cluster.log('gateway-1').replace('\\x20', ' '),
                   'a key that others can read is refused')
        check_equal(cluster.name_of_certificate(), 'second', 'the old certificate is kept')
        received = begin
        while len(received.partition(b'\r\n\r\n')[2]) < len(body):
            piece = reader.recv(1 << 20)
            check(piece, 'the download goes on')
            received += piece
        check_equal(received.partition(b'\r\n\r\n')[2] == body, True, 'the bytes')


def test_expired():
    """S17: an expired certificate is served, with a warning and a metric."""
    with TlsCluster(days=-1) as cluster:
        cluster.up()
        check_equal(cluster.request('GET', '/healthz')[0], 200, 'it is served')
        check('tls_certificate_expires' in cluster.log('gateway-1'), 'a warning in the log')
        check('expired=yes' in cluster.log('gateway-1'), 'that it has expired')
        check_equal(metric(cluster.metrics(), 'hayloft_gateway_tls_certificate_expires_s'),
                    1609459200, 'the end of 2020')


if __name__ == '__main__':
    main([test_protocols, test_curl_verifies, test_plain_http, test_slow_clients, test_ends,
          test_reload, test_expired])
