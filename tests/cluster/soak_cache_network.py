#!/usr/bin/env python3
"""`make soak`: deletes reach gateways between which and the rest of the cluster packets are lost.

    soak_cache_network.py [CHANGES]    in a network of its own; prints its figures as JSON
"""

import contextlib
import json
import subprocess
import sys
import time

from cache_network_test import DSPS, GATEWAYS, CachesCluster
from harness import check
from networks import both_ways, enter_own_network
from soak_cache import DELETES, Judge, Trouble

HEAL_S = 10  # a connection that was cut is broken off and made again within this


def cut(kind, gateway, choose):
    """Pairs for `deaf`, of the machine that is cut off. 0: the nameservers."""
    others = [each for each in GATEWAYS.values() if each != gateway]
    dsps = choose.sample(DSPS, {'a dsp': 1, 'nameservers and a dsp': 1, 'all dsps': 3,
                                'all but a dsp': 2, 'nameservers and dsps': 3}.get(kind, 0))
    pairs = both_ways([gateway], dsps)
    if kind in ('a dsp', 'all dsps'):  # also only there or back: it is as good as both ways
        pairs = choose.choice([pairs, pairs[::2], pairs[1::2]])
    if kind.startswith('nameservers') or kind == 'all but a dsp':
        pairs.append((gateway, 0))
    if kind in ('gateways', 'all but a dsp'):
        pairs += both_ways([gateway], others)
    return pairs


class Partitions(Trouble):
    CUTS = ('a dsp', 'all dsps', 'nameservers', 'nameservers and a dsp', 'nameservers and dsps',
            'gateways', 'all but a dsp')

    def run(self):
        while not self.ended.wait(self.choose.uniform(0.2, 1.5)):
            victims = self.cluster.gateways()[1:]
            kind = self.choose.choice(['stop', 'kill', 'kill', *self.CUTS])
            self.count(kind)
            if kind in ('stop', 'kill'):
                getattr(self, kind)(self.choose.choice(victims))
            else:
                self.cut(kind, self.choose.sample(victims, self.choose.choice([1, 1, 2])))

    def cut(self, kind, victims):
        pairs = sorted({pair for victim in victims
                        for pair in cut(kind, GATEWAYS[victim['name']], self.choose)})
        reaches_none = kind.endswith(' dsps')
        with contextlib.ExitStack() as faults:
            if reaches_none:
                faults.enter_context(self.not_whole(victims, HEAL_S))
            faults.enter_context(self.cluster.deaf(*pairs))
            time.sleep(self.choose.uniform(0.5, 5))
        # Sometimes it is looked at for a while as one that is whole again.
        self.ended.wait(self.choose.choice([0, 0, 0, HEAL_S + 5]) if reaches_none else 0)


def cache_partitions():
    """As cache_deletes, with gateways cut off from dsps, nameservers and each other, too: the
    packets are dropped."""
    done = subprocess.run([sys.executable, __file__], stdout=subprocess.PIPE, check=True,
                          text=True)
    lines = done.stdout.splitlines()
    print(*lines[:-1], sep='\n')
    return json.loads(lines[-1])


PARTS = {'cache_partitions': cache_partitions}


def main():
    check(enter_own_network(), 'network namespaces are allowed here')
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else DELETES
    with CachesCluster() as cluster:
        cluster.up()
        judge = Judge(cluster, Partitions(cluster))
        judge.run(changes)
        print(json.dumps(judge.figures()))


if __name__ == '__main__':
    main()
