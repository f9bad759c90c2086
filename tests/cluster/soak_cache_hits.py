"""Parts of the soak about caches: what they gain."""

import os

from harness import TOP, run
from soak_promises import figure, make

TSV = os.path.join(TOP, 'out', 'cache_hits.tsv')


def cache_hits():
    """Haystack's and TFS's traffic, 10.9 million requests each; S3-FIFO against three others."""
    built = make('out/release/bench/cache_hits_bench')
    if built.returncode != 0:
        return [figure('build', built.returncode, 0, False)]
    done = run(os.path.join(TOP, 'out/release/bench/cache_hits_bench'), '--full', f'--tsv={TSV}',
               timeout=3600, wanted=None)
    if done.returncode not in (0, 1):  # it did not come to an end
        return [figure('exit code', done.returncode, 0, False)]
    with open(os.path.join(TOP, 'out', 'cache_hits.md'), 'w', encoding='utf-8') as file:
        file.write(done.stdout)
    with open(TSV, encoding='utf-8') as file:
        rows = [line.rstrip('\n').split('\t') for line in file]
    misses = {(row[1], row[2], row[3]): float(row[4]) for row in rows if row[0] == 'policy'}
    of_lru = [misses[setting, share, 'S3-FIFO'] / misses[setting, share, 'LRU']
              for setting, share, policy in misses if policy == 'LRU']
    haystack = [float(row[1]) for row in rows if row[0] == 'haystack'][0]
    return [figure('exit code', done.returncode, 0, done.returncode == 0),
            figure('settings times memories', len(of_lru), 16, len(of_lru) == 16),
            figure("S3-FIFO's misses, of LRU's, at most", round(max(of_lru), 3), '<= 1',
                   max(of_lru) <= 1),
            figure("hits of what Haystack's figure counts, its rules, memory 10 %", haystack,
                   '>= 0.8', haystack >= 0.8)]


PARTS = {part.__name__: part for part in (cache_hits,)}
