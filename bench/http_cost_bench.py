#!/usr/bin/env python3
"""What a GET costs the gateway and the dsp, against nginx and a bare loop on the same bytes.

One cluster of one dsp, a gateway with one loop that reaches it by the Unix socket and one that
reaches it by TCP; nginx with one worker and without sendfile; bench/bare_http.cc. All servers are
pinned to one processor and the load to the other; they take turns, so that what is compared was
measured within seconds. us of CPU a request, user and system; medians.

Then what cannot be compared with those, on clusters of their own and not pinned: uploads, each
synced before its answer, and reads of images none of which lies in the page cache.

    http_cost_bench.py [--smoke] [--rounds N] [--seconds S]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'cluster'))
from cluster_bench import Side  # noqa: E402
from cold_reads import IMAGES, ColdReads  # noqa: E402
from harness import MODE, TOP, Cluster, check, cpu_us, free_port, wait_until  # noqa: E402

OUT = os.path.join(TOP, 'out', MODE, 'bench')
REPORT = os.path.join(TOP, 'out', 'bench', 'http_cost.json')
KIB = 1024
SIZES = (4 * KIB, 16 * KIB, 64 * KIB)
CONNECTIONS = 64
SMOKE_S, SMOKE_IMAGES = 0.02, 1000
COLD_ROUNDS = 3
WANTED_US = {'gateway': 18, 'gateway, TCP': 22}  # of 16 KiB
NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile off; keepalive_requests 1000000000; tcp_nodelay on;
  output_buffers 1 128k; open_file_cache max=4000; open_file_cache_valid 1h;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; default_type image/png;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def pin(pid, processor):
    for task in os.listdir(f'/proc/{pid}/task'):
        os.sched_setaffinity(int(task), {processor})


def children(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='utf-8') as file:
        return [int(word) for word in file.read().split()]


class Bench:
    """Servers of the same files, pinned to one processor. Subclasses say which."""
    gateways, cache_bytes = 2, 0

    def __init__(self):
        self.cluster = Cluster(dataservers=1, disks=1, gateways=self.gateways, directory_shards=0,
                               cache_bytes=self.cache_bytes, sets=['gateway.loops=1'])
        self.started = []
        self.servers = {}  # name: (address, the pids that serve)

    def __enter__(self):
        try:
            self.cluster.up()
            self.processors = sorted(os.sched_getaffinity(0))
            first = self.cluster.processes('gateway')[0]
            nameservers = [p['address'] for p in self.cluster.processes('nameserver')]
            self.load = self.start([f'{OUT}/cluster_load', ','.join(nameservers),
                                    os.path.join(self.cluster.dir, 'secret'), first['address']])
            self.root = os.path.join(self.cluster.dir, 'files')
            os.mkdir(self.root)
            self.write_files()
            self.start_servers()
            for _, pids in self.servers.values():
                for pid in pids:
                    pin(pid, self.processors[0])
            pin(self.load.pid, self.processors[-1])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start_servers(self):
        dsps = [process['pid'] for process in self.cluster.processes('dsp')]
        first, second = self.cluster.processes('gateway')
        tcp = self.gateway_by_tcp(second)
        self.servers = {'gateway': (first['address'], dsps + [first['pid']]),
                        'gateway, TCP': (tcp.address, dsps + [tcp.pid])}
        self.start_nginx('nginx', NGINX)
        self.start_bare()

    def start_bare(self, *words):
        bare = self.start([f'{OUT}/bare_http', self.root, *words])
        self.servers['bare loop'] = (f'127.0.0.1:{bare.stdout.readline().strip()}', [bare.pid])

    def __exit__(self, *error):
        for process in reversed(self.started):
            process.terminate()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self.cluster.__exit__(*error)

    def start(self, command):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)
        self.started.append(process)
        return process

    def gateway_by_tcp(self, like):
        """A gateway of the same cluster that does not use Unix sockets."""
        with open(f'/proc/{like["pid"]}/cmdline', encoding='utf-8') as file:
            words = file.read().split('\0')[:-1]
        port = free_port()
        drop = ('--listen=', '--admin-listen=', '--log-file=', '--name=')
        words = [word for word in words if not word.startswith(drop)]
        process = self.start(words + [f'--listen=127.0.0.1:{port}', '--unix-sockets=false',
                                      f'--log-file={self.cluster.dir}/tcp.log'])
        process.address = f'127.0.0.1:{port}'
        wait_until(lambda: self.answers(process.address, '/readyz'), 'the gateway by TCP is ready')
        return process

    def answers(self, address, path):
        try:
            return self.cluster.request('GET', path, address=address)[0] == 200
        except OSError:
            return False

    def start_nginx(self, name, text):
        port = free_port()
        folder = os.path.join(self.cluster.dir, name.replace(' ', '-'))
        os.mkdir(folder)
        config = os.path.join(folder, 'nginx.conf')
        with open(config, 'w', encoding='utf-8') as file:
            file.write(text.format(dir=folder, root=self.root, port=port))
        os.chmod(self.cluster.dir, 0o755)  # its worker is nobody
        nginx = self.start(['nginx', '-c', config])
        address, one = f'127.0.0.1:{port}', os.listdir(self.root)[0]
        wait_until(lambda: self.answers(address, '/' + one), 'nginx serves')
        self.servers[name] = (address, children(nginx.pid))

    def ask(self, line):
        self.load.stdin.write(line + '\n')
        self.load.stdin.flush()
        return json.loads(self.load.stdout.readline())

    def write_files(self):
        """The same names and bytes for those that serve files."""
        for size in SIZES:
            check(self.ask(f'http_put {size} {CONNECTIONS} 0.2')['images'] > 0, 'images are stored')
            for name in self.ask(f'ids {size}'):
                with open(os.path.join(self.root, name), 'wb') as file:
                    file.write(self.cluster.download(name))

    def sample(self, server, size, seconds):
        address, pids = self.servers[server]
        self.load.stdin.write(f'{"memcached" if server == "memcached" else "target"} {address}\n')
        self.ask(f'http_get {size} {CONNECTIONS} {seconds / 10}')  # connections, page cache
        before = sum(map(cpu_us, pids))
        got = self.ask(f'http_get {size} {CONNECTIONS} {seconds}')
        used = sum(map(cpu_us, pids)) - before
        check(got['failed'] == 0 and got['images'] > 0, f'{server}: all were right: {got}')
        return used / got['images'], got['images'] / got['seconds'], got['p99_us']


    def run(self, rounds, seconds):
        """{(server, size): [(us of CPU, a second, us of the slowest hundredth)]}; turns taken."""
        samples = {}
        for _ in range(rounds):
            for size in SIZES:
                for server in self.servers:
                    samples.setdefault((server, size), []).append(
                        self.sample(server, size, seconds))
        return samples


def uploads(rounds, seconds):
    """[{per_s, us}] of 16 KiB, 64 at once, one copy."""
    with Side(copies=1) as side:
        side.sample('http_put', 16 * KIB, CONNECTIONS, seconds)
        samples = []
        for _ in range(rounds):
            if seconds > SMOKE_S:
                side.wait_for_pool()
            got = side.sample('http_put', 16 * KIB, CONNECTIONS, seconds)
            samples.append({'per_s': got['per_s'], 'us': got['gateway'] + got['dsp']})
        return samples


def cold_reads(images, rounds):
    """[{per_s, reads, cpu_us, share}], see tests/cluster/cold_reads.py."""
    with ColdReads(images) as cold:
        return [cold.round(number) for number in range(rounds)]


def at_most(what, values, bound, digits=1):
    """Prints median, least and most beside the goal for the median."""
    print_goal(what, values, '<=', bound, digits, statistics.median(values) <= bound)


def at_least(what, values, bound, digits=0):
    print_goal(what, values, '>=', bound, digits, statistics.median(values) >= bound)


def print_goal(what, values, sign, bound, digits, reached):
    median, least, most = (f'{value:.{digits}f}' for value in (
        statistics.median(values), min(values), max(values)))
    print(f'{"reached" if reached else "missed":8}{what}: {median} ({least} to {most}), '
          f'goal {sign} {bound}')


def print_gets(samples):
    print(f'{"us of CPU a GET (a second)":28}' +
          ''.join(f'{size // KIB:>10} KiB' for size in SIZES))
    medians = {key: [statistics.median(column) for column in zip(*rows)]
               for key, rows in samples.items()}
    for server in dict.fromkeys(server for server, _ in medians):
        cells = [medians[server, size] for size in SIZES]
        print(f'{server:28}' + ''.join(f'{us:7.1f} {rate:6.0f}' for us, rate, _ in cells))


def print_uploads(samples):
    at_least('uploads of 16 KiB a second', [each['per_s'] for each in samples], 18_000)
    at_most('us of gateway and dsp for each', [each['us'] for each in samples], 50)


def print_cold(samples, images):
    rates = sorted(round(each['per_s']) for each in samples)
    print(f'{images} images read cold, a second: {rates}')
    at_least("bytes/s, of fio's", [each['share'] for each in samples], 0.85, 2)
    at_most('disk reads of each', [each['reads'] for each in samples], 1.0, 3)
    at_most('us of gateway and dsp for each', [each['cpu_us'] for each in samples], 35)


def options_of(text):
    parser = argparse.ArgumentParser(description=text.split('\n', maxsplit=1)[0])
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1.0)
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, SMOKE_S
    return options


def main():
    options = options_of(__doc__)
    with Bench() as bench:
        samples = bench.run(options.rounds, options.seconds)
    print_gets(samples)
    for server, wanted in WANTED_US.items():
        at_most(f'us, {server}, 16 KiB', [us for us, _, _ in samples[server, 16 * KIB]], wanted)
    stored = uploads(options.rounds, options.seconds)
    print_uploads(stored)
    images = SMOKE_IMAGES if options.smoke else IMAGES
    read = cold_reads(images, min(options.rounds, COLD_ROUNDS))
    print_cold(read, images)
    os.makedirs(os.path.dirname(REPORT), exist_ok=True)
    with open(REPORT, 'w', encoding='utf-8') as file:
        json.dump({'seconds': options.seconds, 'rounds': options.rounds,
                   'samples': [[*key, rows] for key, rows in samples.items()],
                   'uploads': stored, 'cold': read}, file, indent=1)


if __name__ == '__main__':
    main()
