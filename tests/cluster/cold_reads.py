"""Images read once each by HTTP, none of them in the page cache, beside fio on the same places.

Only the pages of the blocks are dropped, which needs no root: other work on the machine keeps its
own, and does not read them anew from the disk whose reads are counted.
"""

import contextlib
import glob
import json
import os
import random

from harness import TOP, Cluster, check, check_equal, cpu_us, run
from overload_test import Load

IMAGES, MEAN_BYTES, AT_ONCE = 200_000, 27_000, 64
TOOL = os.path.join(TOP, 'out', 'release', 'bench', 'needle_places')


def disk_stat_of(folder):
    """/sys/block/DEV/stat of the disk under a folder."""
    number = os.stat(folder).st_dev
    link = os.path.realpath(f'/sys/dev/block/{os.major(number)}:{os.minor(number)}')
    if os.path.exists(os.path.join(link, 'partition')):
        link = os.path.dirname(link)
    return os.path.join(link, 'stat')


def reads_of(stat):
    with open(stat, encoding='utf-8') as file:
        return int(file.read().split()[0])


class ColdReads:
    """A cluster of one dsp with `images` images."""

    def __init__(self, images):
        self.images = images
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with self.stack:
            cluster = self.stack.enter_context(Cluster(directory_shards=0, dataservers=1, disks=1))
            cluster.up()
            run('make', '--no-print-directory', '-C', TOP, os.path.relpath(TOOL, TOP), timeout=300)
            self.load = self.stack.enter_context(Load(cluster))
            self.ask(f'fill {MEAN_BYTES} {AT_ONCE} {self.images}')
            self.folder = os.path.join(cluster.dir, 'dataserver-1', 'disk-1')
            listed = run(TOOL, self.folder, timeout=600).stdout.splitlines()
            self.places = [(os.path.join(self.folder, name), int(offset), int(size))
                           for name, offset, size in map(str.split, listed)]
            check_equal(len(self.places), self.images, 'needles')
            self.scratch, self.stat = cluster.dir, disk_stat_of(cluster.dir)
            self.servers = [process['pid'] for role in ('gateway', 'dsp')
                            for process in cluster.processes(role)]
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)

    def ask(self, line):
        answer = self.load.ask(line)
        check_equal((answer['images'], answer['failed']), (self.images, 0), line)
        return answer

    def forget(self):
        for path in glob.glob(os.path.join(glob.escape(self.folder), '*')):
            if not os.path.isfile(path):
                continue
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)  # pages that wait to be written stay
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)

    def fio_bytes_per_s(self, seed):
        """Buffered reads of all needles in an order of chance, by 32 threads."""
        jobs, places = 32, self.places[:]
        random.Random(seed).shuffle(places)
        job_file = os.path.join(self.scratch, 'fio.ini')
        with open(job_file, 'w', encoding='utf-8') as ini:
            ini.write('[global]\nioengine=psync\nthread=1\nreplay_no_stall=1\ninvalidate=0\n'
                      'fadvise_hint=random\ngroup_reporting=1\n')
            for job in range(jobs):
                log = os.path.join(self.scratch, f'fio-{job}.log')
                mine = places[job::jobs]
                with open(log, 'w', encoding='utf-8') as file:
                    file.write('fio version 2 iolog\n')
                    for name in sorted({place[0] for place in mine}):
                        file.write(f'{name} add\n{name} open\n')
                    file.writelines(f'{name} read {offset} {size}\n' for name, offset, size in mine)
                ini.write(f'[job{job}]\nread_iolog={log}\n')
        self.forget()
        done = run('fio', '--output-format=json', job_file, timeout=600)
        read = json.loads(done.stdout[done.stdout.index('{'):])['jobs'][0]['read']
        check_equal(read['io_bytes'], sum(size for _, _, size in places), 'bytes that fio read')
        return read['bw_bytes']

    def round(self, number):
        """Every image once: per_s, disk reads and cpu_us an image; bytes/s, and as a share of
        fio's."""
        fio = self.fio_bytes_per_s(number)
        self.forget()
        before = reads_of(self.stat), sum(map(cpu_us, self.servers))
        got = self.ask(f'cold {8 + number} {AT_ONCE} 1')
        figures = {'per_s': got['per_s'],
                   'reads': (reads_of(self.stat) - before[0]) / self.images,
                   'cpu_us': (sum(map(cpu_us, self.servers)) - before[1]) / self.images,
                   'bytes_per_s': got['bytes'] / got['seconds'], 'fio_bytes_per_s': fio}
        figures['share'] = figures['bytes_per_s'] / fio
        print('   cold', {name: round(value, 3) for name, value in figures.items()}, flush=True)
        check(figures['reads'] >= 0.9, f'they were cold: {figures}')
        return figures
