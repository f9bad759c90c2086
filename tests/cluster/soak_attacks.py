"""Parts of the soak: attacks, at their full size and with the gateway's own options."""

from attack_test import BODIES, HEADS, LONG, RANGES, READERS, SMALL, assault
from harness import Cluster
from soak_promises import equal, figure

ATTACKERS = 1000


def slow_clients():
    """slowhttptest's modes, 1,000 connections each, while others read and upload."""
    figures = []
    with Cluster(directory_shards=0, disks=1) as cluster:
        cluster.up()
        small, long = (cluster.upload(body)['id'] for body in (SMALL, LONG))
        for name, path, words, grown_mib_max in (
                ('slow heads', '/' + small, HEADS, 64), ('slow bodies', '/v1/files', BODIES, 64),
                ('slow readers', '/' + long, READERS, 640),
                ('many ranges', '/' + small, RANGES, 64)):
            report = assault(cluster, small, path, words, 25, ATTACKERS)
            figures += [
                figure(f'{name}: attackers', report['attackers'], '>= 900',
                       report['attackers'] >= 900),
                equal(f'{name}: failed requests of others', report['failed'], []),
                figure(f'{name}: requests of others', report['served'], '>= 200',
                       report['served'] >= 200),
                figure(f'{name}: p99 of others, ms', report['p99_ms'], '<= 500',
                       report['p99_ms'] <= 500),
                figure(f'{name}: MiB that the gateway grew by', report['grown_mib'],
                       f'<= {grown_mib_max}', report['grown_mib'] <= grown_mib_max)]
    return figures


PARTS = {part.__name__: part for part in (slow_clients,)}
