#!/usr/bin/env python3
"""What the directory costs an upload of a new image: latency with a look-up against without.

A cluster of one copy and one of three; on each, samples with and without (`Hayloft-Dedup: no`) take
turns, so that what is compared was measured within seconds. All images are new: each is looked up,
stored and recorded. Latency of one uploader and of 64, and processor time of all servers for an
image; medians of the rounds.

    dedup_cost_bench.py [--smoke] [--rounds N] [--seconds S]

--smoke: each kind of sample once and tiny. Prints a table and writes out/bench/dedup_cost.json.
"""

import argparse
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'cluster'))
from cluster_bench import Side  # noqa: E402
from harness import TOP, check  # noqa: E402

REPORT = os.path.join(TOP, 'out', 'bench', 'dedup_cost.json')
KIB = 1024
UPLOADERS = (1, 64)
SMOKE_S = 0.05
WANTED = 1.2  # times what it takes without
KINDS = ('http_alone', 'http_new')
FIGURES = {'p50_ms': 'p50 ms', 'p99_ms': 'p99 ms', 'servers': 'CPU us'}


def measure(copies, rounds, seconds):
    """{(uploaders, kind, figure): its samples}"""
    samples = {}
    with Side(copies, directory_shards=1) as side:
        check(side.cluster.processes('directory'), 'a directory runs')
        for kind in KINDS:
            side.sample(kind, 16 * KIB, 16, seconds)  # warm
        for round_ in range(rounds):
            if seconds > SMOKE_S:
                side.wait_for_pool()
            for uploaders in UPLOADERS:
                for kind in KINDS if round_ % 2 == 0 else reversed(KINDS):
                    got = side.sample(kind, 16 * KIB, uploaders, seconds)
                    for figure in FIGURES:
                        samples.setdefault((uploaders, kind, figure), []).append(got[figure])
    return samples


def main():
    options = argparse.ArgumentParser()
    options.add_argument('--smoke', action='store_true')
    options.add_argument('--rounds', type=int, default=9)
    options.add_argument('--seconds', type=float, default=2)
    arguments = options.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.seconds = 1, SMOKE_S
    report = []
    print('16 KiB               without    with   times (latency: wanted at most %.2f)' % WANTED)
    for copies in (1, 3):
        samples = measure(copies, arguments.rounds, arguments.seconds)
        for uploaders in UPLOADERS:
            for figure, name in FIGURES.items():
                without, with_it = (statistics.median(samples[uploaders, kind, figure])
                                    for kind in KINDS)
                row = {'copies': copies, 'uploaders': uploaders, 'figure': figure,
                       'without': round(without, 3), 'with': round(with_it, 3),
                       'times': round(with_it / without, 3)}
                report.append(row)
                print(f'{copies} copies x{uploaders:<3}{name:7}{without:9.2f}{with_it:8.2f}'
                      f'{with_it / without:8.2f}')
    os.makedirs(os.path.dirname(REPORT), exist_ok=True)
    with open(REPORT, 'w', encoding='utf-8') as file:
        json.dump(report, file, indent=1)


if __name__ == '__main__':
    main()
