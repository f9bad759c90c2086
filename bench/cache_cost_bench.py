#!/usr/bin/env python3
"""What a GET of a file in memory costs: the gateway's cache beside others that do the same.

nginx with sendfile and open files (tcp_nopush on and off), memcached, Varnish, and a bare epoll
loop that answers from memory: the same 1,000 bodies of each size, one processor for all servers and
the other for the load, turns taken. us of CPU a request, user and system; medians.

Then a file that another gateway keeps: what the hop costs both.

    cache_cost_bench.py [--smoke] [--rounds N] [--seconds S]
"""

import json
import os
import socket
import statistics

from http_cost_bench import KIB, SIZES, Bench, at_most, options_of, print_gets
from harness import TOP, check, free_port, wait_until

REPORT = os.path.join(TOP, 'out', 'bench', 'cache_cost.json')
OF_THE_LOOP = 1.10
NGINX = """
worker_processes 1; daemon off; pid {{dir}}/nginx.pid; error_log {{dir}}/error.log;
events {{{{ worker_connections 1024; }}}}
http {{{{
  access_log off; sendfile on; tcp_nopush {nopush}; keepalive_requests 1000000000; tcp_nodelay on;
  open_file_cache max=4000; open_file_cache_valid 1h;
  client_body_temp_path {{dir}}/b; proxy_temp_path {{dir}}/p; fastcgi_temp_path {{dir}}/f;
  uwsgi_temp_path {{dir}}/u; scgi_temp_path {{dir}}/s; default_type image/png;
  server {{{{ listen 127.0.0.1:{{port}}; root {{root}}; }}}}
}}}}
"""
VCL = 'vcl 4.1; backend files {{ .host = "127.0.0.1"; .port = "{port}"; }}' \
      ' sub vcl_backend_response {{ set beresp.ttl = 1h; }}'


def descendants(pid):
    found = [pid]
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/children', encoding='utf-8') as file:
            for child in file.read().split():
                found += descendants(int(child))
    return found


class CacheBench(Bench):
    gateways, cache_bytes = 1, None

    def start_servers(self):
        first = self.cluster.processes('gateway')[0]
        self.servers = {'gateway': (first['address'], [first['pid']])}
        self.start_bare('memory')
        self.start_nginx('nginx', NGINX.format(nopush='off'))
        self.start_nginx('nginx tcp_nopush', NGINX.format(nopush='on'))
        self.start_memcached()
        self.start_varnish()

    def start_memcached(self):
        port = free_port()
        memcached = self.start(['memcached', '-l', '127.0.0.1', '-p', str(port), '-t', '1', '-m',
                                '1024', '-u', 'nobody'])
        address = ('127.0.0.1', port)

        def listens():
            try:
                socket.create_connection(address, 1).close()
                return True
            except OSError:
                return False
        wait_until(listens, 'memcached listens')
        with socket.create_connection(address) as peer, peer.makefile('rb') as answers:
            for name in os.listdir(self.root):
                with open(os.path.join(self.root, name), 'rb') as file:
                    body = file.read()
                peer.sendall(f'set {name} 0 0 {len(body)}\r\n'.encode() + body + b'\r\n')
                check(answers.readline() == b'STORED\r\n', 'memcached keeps a body')
        self.servers['memcached'] = (f'127.0.0.1:{port}', [memcached.pid])

    def start_varnish(self):
        port, folder = free_port(), os.path.join(self.cluster.dir, 'varnish')
        os.mkdir(folder)
        vcl = os.path.join(folder, 'default.vcl')
        with open(vcl, 'w', encoding='utf-8') as file:
            file.write(VCL.format(port=self.servers['nginx'][0].split(':')[1]))
        varnish = self.start(['varnishd', '-F', '-j', 'none', '-a', f'127.0.0.1:{port}', '-f', vcl,
                              '-n', folder, '-s', 'malloc,1G', '-p', 'thread_pool_min=64'])
        one = os.listdir(self.root)[0]
        wait_until(lambda: self.answers(f'127.0.0.1:{port}', '/' + one), 'Varnish serves', 60)
        self.servers['Varnish'] = (f'127.0.0.1:{port}', descendants(varnish.pid))


class TwoGateways(Bench):
    """Half of the files are the other one's to keep: that half costs both, and the hop."""
    gateways, cache_bytes = 2, None

    def start_servers(self):
        first, second = self.cluster.processes('gateway')
        self.servers = {'two gateways': (first['address'], [first['pid'], second['pid']])}


def print_hop(samples):
    """Both samples have the same hits, of which the second has half."""
    for size in SIZES:
        alone = statistics.median(us for us, _, _ in samples['gateway', size])
        half = statistics.median(us for us, _, _ in samples['two gateways', size])
        print(f'{size // KIB} KiB that another gateway keeps: {2 * half - alone:.1f} us of both')


def print_goals(samples):
    def medians(server, size):
        return [statistics.median(column) for column in zip(*samples[server, size])]
    for size in SIZES:
        ours = samples['gateway', size]
        loop, nginx = medians('bare loop', size), medians('nginx', size)
        at_most(f'of the loop, {size // KIB} KiB', [us / loop[0] for us, _, _ in ours],
                OF_THE_LOOP, 2)
        nginx_us = min(nginx[0], medians('nginx tcp_nopush', size)[0])
        at_most(f'of nginx, {size // KIB} KiB', [us / nginx_us for us, _, _ in ours], 1.0, 2)
        at_most(f"p99, of nginx's, {size // KIB} KiB", [p99 / nginx[2] for _, _, p99 in ours],
                1.0, 2)


def main():
    options = options_of(__doc__)
    with CacheBench() as bench:
        samples = bench.run(options.rounds, options.seconds)
    with TwoGateways() as bench:
        samples |= bench.run(options.rounds, options.seconds)
    print_gets(samples)
    print_goals(samples)
    print_hop(samples)
    os.makedirs(os.path.dirname(REPORT), exist_ok=True)
    with open(REPORT, 'w', encoding='utf-8') as file:
        json.dump({'seconds': options.seconds, 'rounds': options.rounds,
                   'samples': [[*key, rows] for key, rows in samples.items()]}, file, indent=1)


if __name__ == '__main__':
    main()
