#!/usr/bin/env python3
"""What an image costs each process of a cluster, and how many a second there are.

Two clusters are up, of one dsp and one copy, and of three dsps on one disk and three copies; loads
of bench/cluster_load.cc on them take turns, so that what is compared was measured within seconds
on a machine that has other work. Each figure is the median of five samples.

    cluster_bench.py [--smoke] [--rounds N] [--seconds S] [--only TEXT]

--smoke: every kind of sample once and tiny. --only: cells whose name holds the text. Prints a
table and writes out/bench/cluster.json.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'cluster'))
from harness import MODE, TOP, Cluster, check, cpu_us, metric, wait_until  # noqa: E402

LOAD = os.path.join(TOP, 'out', MODE, 'bench', 'cluster_load')
REPORT = os.path.join(TOP, 'out', 'bench', 'cluster.json')
KIB = 1024
UPLOADERS = (1, 16, 64, 256)
SIZES = (4 * KIB, 16 * KIB, 64 * KIB)
COPIES = (1, 3)
ROLES = ('gateway', 'dsp', 'nameserver')
PROBE_BYTES = 20 * KIB  # whole pages, as a commit of one 16 KiB image
PROBE_S = 0.2
SMOKE_S = 0.02


def cells():
    """(kind, size, how many at a time), in the order in which they are measured."""
    for size in SIZES:
        for uploaders in UPLOADERS:
            yield 'sdk_put', size, uploaders
            yield 'http_put', size, uploaders
        yield 'sdk_batch', size, 16
    for in_flight in (1, 64):
        yield 'sdk_get', 16 * KIB, in_flight
        yield 'http_get', 16 * KIB, in_flight


def name_of(kind, size, at_a_time, copies):
    return f'{kind} {size // KIB} KiB x{at_a_time} copies={copies}'


class Side:
    """A cluster with its load."""

    def __init__(self, copies, directory_shards=0):
        self.copies = copies
        self.cluster = Cluster(dataservers=copies, disks=1, copies=copies,
                               directory_shards=directory_shards)
        self.load = None

    def __enter__(self):
        try:
            self.cluster.up()
            nameservers = [p['address'] for p in self.cluster.processes('nameserver')]
            self.load = subprocess.Popen(
                [LOAD, ','.join(nameservers), os.path.join(self.cluster.dir, 'secret'),
                 self.cluster.gateway], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.pids = {role: [p['pid'] for p in self.cluster.processes(role)]
                         for role in (*ROLES, 'directory')}
        except BaseException:
            self.__exit__(None, None, None)  # a with block that was not entered leaves none
            raise
        return self

    def __exit__(self, *error):
        if self.load is not None:
            self.load.stdin.close()
            self.load.wait()
        self.cluster.__exit__(*error)

    def used(self):
        return {role: sum(map(cpu_us, pids)) for role, pids in self.pids.items()}

    def sample(self, kind, size, at_a_time, seconds):
        """A dict of figures: images a second, and us an image of each role."""
        before = self.used()
        self.load.stdin.write(f'{kind} {size} {at_a_time} {seconds}\n')
        self.load.stdin.flush()
        line = self.load.stdout.readline()
        after = self.used()
        check(line, f'{kind} on {self.copies} copies was answered')
        got = json.loads(line)
        check(got['failed'] == 0 and got['images'] > 0, f'{kind}: all succeeded: {line}')
        figures = {role: (after[role] - before[role]) / got['images'] for role in self.pids}
        figures['client'] = got['cpu_us'] / got['images']
        figures['servers'] = sum(figures.values()) - figures['client']
        figures['per_s'] = got['images'] / got['seconds']
        figures['p50_ms'] = got['p50_us'] / 1000
        figures['p99_ms'] = got['p99_us'] / 1000
        return figures

    def metrics(self, name):
        """A metric of the dsps, of each of them."""
        texts = [self.cluster.request('GET', '/metrics', address=process['http'])[2].decode()
                 for process in self.cluster.processes('dsp')]
        return [metric(text, 'hayloft_dsp_' + name) for text in texts]

    def wait_for_pool(self):
        """Files written beforehand are part of the product, and written while nothing happens."""
        wait_until(lambda: min(self.metrics('pool_files')) >= 2, 'the pools are full')

    def use_up_smaller_sets(self, seconds):
        """Blocks made before all dsps were there have fewer replicas: those are filled first."""
        for _ in range(50):
            before = sum(self.metrics('commits_total')), sum(self.metrics('replica_commits_total'))
            self.sample('sdk_put', 64 * KIB, 64, seconds)
            commits = sum(self.metrics('commits_total')) - before[0]
            replicas = sum(self.metrics('replica_commits_total')) - before[1]
            if replicas == commits * (self.copies - 1):
                return
        check(False, f'{self.copies} copies of each image')


def sync_ms(folder):
    """Median of what a write and an fdatasync of a file take that lies on the disk already."""
    path = os.path.join(folder, 'probe')
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        room = 4 << 20
        os.pwrite(file, bytes(room), 0)
        os.fsync(file)
        page, took, offset, end = os.urandom(PROBE_BYTES), [], 0, time.monotonic() + PROBE_S
        while time.monotonic() < end or len(took) < 5:
            begun = time.monotonic()
            os.pwrite(file, page, offset)
            os.fdatasync(file)
            took.append((time.monotonic() - begun) * 1000)
            offset = (offset + PROBE_BYTES) % (room - PROBE_BYTES) // 4096 * 4096
        return statistics.median(took)
    finally:
        os.close(file)
        os.unlink(path)


def hash_us():
    """us of this thread for SHA-1 and SHA-256 of 16 KiB by OpenSSL: how fast the machine is now."""
    image, rounds = os.urandom(16 * KIB), 200
    begun = time.thread_time()
    for _ in range(rounds):
        hashlib.sha1(image).digest()
        hashlib.sha256(image).digest()
    return (time.thread_time() - begun) * 1e6 / rounds


def measure(wanted, rounds, seconds):
    """({cell's name: {figure: its samples}}, {what the machine can do: its samples})."""
    samples, machine = {}, {'sync_ms': [], 'hash_us': []}
    with Side(COPIES[0]) as one, Side(COPIES[1]) as three:
        for round_ in range(rounds):
            for side in (one, three):
                if seconds > SMOKE_S:
                    side.wait_for_pool()
                side.use_up_smaller_sets(seconds)
                side.sample('sdk_put', 16 * KIB, 64, seconds)  # warm, and something to read
            for kind, size, at_a_time in cells():
                if at_a_time == 1 and kind.endswith('_put'):
                    machine['sync_ms'].append(sync_ms(one.cluster.dir))
                    machine['hash_us'].append(hash_us())
                sides = (one, three) if round_ % 2 == 0 else (three, one)
                for side in sides:
                    name = name_of(kind, size, at_a_time, side.copies)
                    if wanted not in name:
                        continue
                    if kind.endswith('_get') and seconds > SMOKE_S:
                        side.wait_for_pool()  # else a dsp that takes no uploads writes zeros
                    figures = side.sample(kind, size, at_a_time, seconds)
                    cell = samples.setdefault(name, {figure: [] for figure in figures})
                    for figure, value in figures.items():
                        cell[figure].append(value)
            print(f'round {round_ + 1} of {rounds}', file=sys.stderr, flush=True)
    return samples, machine


def print_table(medians):
    print(f'{"":34}{"images/s":>9}{"p50 ms":>8}{"p99 ms":>8}' +
          ''.join(f'{role:>11}' for role in ROLES) + f'{"servers":>9}{"client":>8}   us an image')
    for name, cell in medians.items():
        print(f'{name:34}{cell["per_s"]:9.0f}{cell["p50_ms"]:8.2f}{cell["p99_ms"]:8.2f}' +
              ''.join(f'{cell[role]:11.1f}' for role in ROLES) +
              f'{cell["servers"]:9.1f}{cell["client"]:8.1f}')


def goals(medians, sync):
    """(what, value, goal, whether it is reached) of those whose cells were measured."""
    def of(kind, at_a_time, copies):
        return medians.get(name_of(kind, 16 * KIB, at_a_time, copies))
    found = []

    def at_most(what, value, bound):
        found.append((what, round(value, 2), f'<= {bound:.2f}', value <= bound))

    def at_least(what, value, bound):
        found.append((what, round(value, 2), f'>= {bound}', value >= bound))
    for copies in COPIES:
        batch, single = of('sdk_batch', 16, copies), of('sdk_put', 1, copies)
        if batch and single:
            at_least(f'batches of 16, times one after the other, copies={copies}',
                     batch['per_s'] / single['per_s'], 3)
    for kind, beside in (('http_put', 'without the HTTP client'), ('sdk_put', 'SDK included')):
        cell = of(kind, 64, 3)
        if cell:
            sdk = cell['client'] if kind == 'sdk_put' else 0
            at_least(f'images/s, three copies, 64 uploaders, {kind}', cell['per_s'], 10_000)
            at_most(f'us of all processes for each, {beside}', cell['servers'] + sdk, 75)
    for copies in COPIES:
        for kind in ('sdk_put', 'http_put'):
            if of(kind, 1, copies):
                at_most(f'ms of one upload at a time, {kind}, copies={copies}',
                        of(kind, 1, copies)['p50_ms'], sync + 0.4)
    for copies in COPIES:
        if of('sdk_get', 64, copies):
            at_most(f'us of the dsp for a get of 16 KiB, copies={copies}',
                    of('sdk_get', 64, copies)['dsp'], 10)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=0.5)
    parser.add_argument('--only', default='')
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, SMOKE_S
    samples, machine = measure(options.only, options.rounds, options.seconds)
    medians = {name: {figure: statistics.median(values) for figure, values in cell.items()}
               for name, cell in samples.items()}
    sync, hashing = (statistics.median(machine[what]) for what in ('sync_ms', 'hash_us'))
    print_table(medians)
    print(f'\nwrite and sync of this disk: {sync:.3f} ms; SHA-1 and SHA-256 of 16 KiB, one after '
          f'the other, by OpenSSL: {hashing:.1f} us')
    reached = goals(medians, sync)
    for what, value, goal, good in reached:
        print(f'{"reached" if good else "missed":8}{what}: {value}, goal {goal}')
    os.makedirs(os.path.dirname(REPORT), exist_ok=True)
    with open(REPORT, 'w', encoding='utf-8') as file:
        json.dump({'seconds': options.seconds, 'rounds': options.rounds, 'machine': machine,
                   'goals': reached, 'samples': samples}, file, indent=1)


if __name__ == '__main__':
    main()
