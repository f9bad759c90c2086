#!/usr/bin/env python3
"""The gateway's access log as its users see it: a line a request, also over SIGHUP (S18, S23)."""

import json
import os
import re
import signal
import socket
import threading

from harness import (Cluster, admin_address, check, check_equal, main, metric, random_bytes,
                     wait_until)

COMBINED = re.compile(r'\S+ - \S+ \[[^]"]+\] "[^"]*" \d{3} \d+ "[^"]*" "[^"]*" \d+ \d+( \S+){5}')
FORGED = '127.0.0.9 - - [29/Nov/2026:03:06:15 +0000] "GET /forged HTTP/1.1" 200 9 "-" "-"'


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding='ascii') as file:
        return [json.loads(line) for line in file]


def test_access_log():
    """Good, malformed and broken requests each get one line; SIGHUP begins a new file."""
    with Cluster(disks=1, sets=['gateway.access_log_format=json',
                                'gateway.server_timing=true']) as cluster:
        log = os.path.join(cluster.dir, 'access.log')
        cluster.sets += ['--set', f'gateway.access_log={log}']
        cluster.up()
        body = random_bytes(100_000, 1)
        stored = cluster.upload(body)
        path = f'/{stored["id"]}?signature=canary&download=a'
        status, headers, got = cluster.request('GET', path, headers={
            'X-Request-Id': 'mine-1', 'User-Agent': 'a"b', 'Authorization': 'Bearer canary',
            'Referer': 'http://x/?token=canary'})
        check_equal((status, got == body), (200, True), 'the file')
        check(headers['Server-Timing'].startswith('store;dur='), headers)
        read = wait_until(lambda: [line for line in lines(log)
                                   if line.get('request_id') == 'mine-1'], 'its line')[0]
        check_equal((read['method'], read['status'], read['client'], read['user_agent']),
                    ('GET', 200, '127.0.0.1', 'a\\x22b'), 'the line')
        check_equal(read['target'], f'/{stored["id"]}?signature=*&download=a', 'the target')
        check_equal(read['dsp'], cluster.process('dsp-1-1')['address'], 'the dsp')
        check(read['sent_bytes'] > len(body) and read['us'] > 0, read)
        host, port = cluster.gateway.split(':')
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b'Authorization: Bearer canary\r\n\r\n')
            check(client.recv(4096).startswith(b'HTTP/1.1 400 '), 'a malformed request')
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b'POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1')
        wait_until(lambda: {400, 499} <= {line['status'] for line in lines(log)}, 'both lines')
        check([line['end'] for line in lines(log) if line['status'] == 499] == ['broken'], 'broken')
        os.rename(log, log + '.1')
        cluster.kill(cluster.process('gateway-1'), signal.SIGHUP)
        wait_until(lambda: os.path.exists(log), 'a new file')
        cluster.download(stored['id'])
        wait_until(lambda: lines(log), 'a line in it')
        for name in (log, log + '.1', os.path.join(cluster.dir, 'log', 'gateway-1.log')):
            with open(name, encoding='utf-8') as file:
                check('canary' not in file.read(), f'a secret in {name}')


def exchange(cluster, *requests):
    """The bytes that come back for these requests, all on one connection."""
    with socket.create_connection(('127.0.0.1', cluster.port), timeout=30) as client:
        sender = threading.Thread(target=client.sendall, args=(b''.join(requests),))
        sender.start()
        received = bytearray()
        while piece := client.recv(1 << 18):
            received += piece
        sender.join()
    return bytes(received)


def forgeries():
    """Requests that would write a line of their own, or steer a terminal, if they could."""
    evil = [b'a\r\n' + FORGED.encode(), b'a\n' + FORGED.encode(), b'a\r' + FORGED.encode(),
            b'a"' + FORGED.encode(), b'\x1b[2J\x1b]0;x\x07', b'\xc2\x9b31m', b'\x00', b'\x7f',
            b'\t', b'\\', b'\\"', b'","status":200,"x":"', b'\xff\xfe', '\u202e\u2028'.encode(),
            b'%0d%0a' + FORGED.replace(' ', '%20').encode()]
    for text in evil:
        yield b'GET /' + text + b' HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'
        yield b'GET /x?download=' + text + b' HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'
        for name in (b'Referer', b'User-Agent', b'X-Forwarded-For', b'X-Request-Id', b'Host',
                     b'Authorization', b'Origin'):
            host = b'' if name == b'Host' else b'Host: h\r\n'
            yield (b'GET /healthz HTTP/1.1\r\n' + host + b'Connection: close\r\n' + name + b': ' +
                   text + b'\r\n\r\n')


def test_s23_no_client_forges_a_line():
    """CR, LF, quotes and escapes in each part of a request: one line each, in both forms."""
    for form in ('json', 'combined'):
        with Cluster(disks=1, sets=[f'gateway.access_log_format={form}']) as cluster:
            log = os.path.join(cluster.dir, 'access.log')
            cluster.sets += ['--set', f'gateway.access_log={log}']
            cluster.up()
            os.rename(log, log + '.up')
            cluster.kill(cluster.process('gateway-1'), signal.SIGHUP)
            wait_until(lambda path=log: os.path.exists(path), 'a new file')
            requests = list(forgeries())
            for request in requests:
                check(exchange(cluster, request).startswith(b'HTTP/1.1 '), request)
            last = b'GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'
            exchange(cluster, last)
            wait_until(lambda path=log: b'/last' in read(path), 'all lines')
            written = read(log)
            check(all(byte == 10 or 32 <= byte < 127 for byte in written), 'printable bytes only')
            told = written.decode().splitlines()
            check_equal(len(told), len(requests) + 1, f'lines in {form} form')
            for line in told:
                check(json.loads(line) if form == 'json' else COMBINED.fullmatch(line), line)
                check(not line.startswith('127.0.0.9'), f'a forged line: {line}')
            own = read(os.path.join(cluster.dir, 'log', 'gateway-1.log'))
            check(b'/forged' not in own and b'\x1b' not in own, 'the gateway\'s own log')


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def resident_bytes(process):
    with open(f'/proc/{process["pid"]}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def test_s23_a_flood_of_lines_is_bounded_and_counted():
    """The log takes nothing any more: requests go on, memory is bounded, each lost line counts."""
    with Cluster(disks=1) as cluster:
        pipe = os.path.join(cluster.dir, 'pipe')
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # until it reads, the disk "hangs"
        try:
            cluster.sets += ['--set', f'gateway.access_log={pipe}']
            cluster.up()
            gateway = cluster.process('gateway-1')
            before = resident_bytes(gateway)
            noise = b'\xf1' * 255  # each is written as four bytes
            one = (b'GET /' + b'a' * 1000 + b' HTTP/1.1\r\nHost: h\r\nUser-Agent: ' + noise +
                   b'\r\nReferer: http://' + noise + b'\r\n')
            count = 8_000
            answers = exchange(cluster, *[one + b'\r\n'] * (count - 1),
                               one + b'Connection: close\r\n\r\n')
            check_equal(answers.count(b'HTTP/1.1 400 '), count, 'answers meanwhile')
            grown = resident_bytes(gateway) - before
            check(grown < 40 << 20, f'{grown} bytes more memory')
            lost = wait_until(lambda: lost_lines(cluster, gateway), 'lost lines are counted')
            check(lost > count / 4, f'{lost} lost')
            drained = drain(reader, lambda text: text.count(b'\n') + lost_lines(cluster, gateway) >=
                            count)
            flood = [line for line in drained.splitlines() if b'/aaaa' in line]
            check_equal(len(flood) + lost_lines(cluster, gateway), count, 'written and lost')
            check(all(COMBINED.fullmatch(line.decode()) for line in flood), 'whole lines')
        finally:
            os.close(reader)


def lost_lines(cluster, gateway):
    text = cluster.request('GET', '/metrics', address=admin_address(gateway))[2].decode()
    return int(metric(text, 'hayloft_gateway_access_log_lost_total'))


def drain(reader, is_done):
    """What the pipe gives until it is empty and is_done(all of it)."""
    text = bytearray()

    def step():
        try:
            while piece := os.read(reader, 1 << 20):
                text.extend(piece)
        except BlockingIOError:
            return is_done(text)
    wait_until(step, 'the rest of the lines')
    return bytes(text)


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
