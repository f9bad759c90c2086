#!/usr/bin/env python3
"""Gateways' caches and partitions: who reaches a replica again does not answer what was deleted.

Three dataservers and three gateways, each on a machine of its own.
"""

import contextlib
import time

from cache_test import DELETE_S, MIB, TellsMetrics
from harness import check, check_equal, main, random_bytes, wait_until
from load import ERRORS
from networks import NetworkCluster, enter_own_network

DSPS = (1, 2, 3)
GATEWAYS = {'gateway-1': 4, 'gateway-2': 5, 'gateway-3': 6}  # the machine of each
OPENS = {'--listen', '--admin-listen', '--tier-listen'}
FILES = 20


class CachesCluster(TellsMetrics, NetworkCluster):
    def __init__(self):
        super().__init__(machines=len(DSPS), copies=3, gateways=len(GATEWAYS),
                         cache_bytes=8 * MIB)
        self.namespaces = max(GATEWAYS.values())
        self.addresses = {}
        self.commands = {}  # of the gateways
        self.running = {}

    @staticmethod
    def machine_of(name):
        return GATEWAYS.get(name) or NetworkCluster.machine_of(name)

    def moved(self, word, name):
        key, _, value = word.partition('=')
        if name not in GATEWAYS or key not in OPENS:
            return super().moved(word, name)
        value = self.at_home(name, value)
        if key == '--listen':
            self.addresses[name] = value
            if name == 'gateway-1':
                self.gateway = value
        return f'{key}={value}'

    def start(self, name, command):
        process = super().start(name, command)
        if name in GATEWAYS:
            self.commands[name], self.running[name] = command, process
        return process

    def gateways(self):
        return [{'name': name, 'pid': self.running[name].pid, 'address': self.addresses[name]}
                for name in GATEWAYS]

    def is_ready(self):
        return super().is_ready() and all(self.told(each, 'gateways') == len(GATEWAYS)
                                          for each in self.gateways())

    def restart(self, gateway, meanwhile=lambda: None):
        """kill -9; again when it says that it is ready."""
        name = gateway['name']
        self.running[name].kill()
        self.running[name].wait()
        meanwhile()
        self.start(name, self.commands[name])
        wait_until(lambda: self.is_up(name), f'{name} is ready')

    def is_up(self, name):
        with contextlib.suppress(*ERRORS):
            return self.request('GET', '/readyz', address=self.addresses[name],
                                timeout=5)[0] == 200
        return False

    def status_of(self, gateway, file_id, timeout=20):
        """0: no answer."""
        try:
            return self.request('GET', '/' + file_id, address=self.addresses[gateway],
                                timeout=timeout)[0]
        except ERRORS:
            return 0


def hot_files(cluster):
    """[(id, token)] that all gateways have answered."""
    files = []
    for number in range(FILES):
        stored = cluster.upload(random_bytes(3_000, number))
        files.append((stored['id'], stored['delete_token']))
    for gateway in GATEWAYS:
        wait_until(lambda: {cluster.status_of(gateway, each) for each, _ in files} == {200},
                   f'{gateway} answers all')
    return files


def change(cluster, files, undelete=False):
    for file_id, token in files:
        path = f'/v1/files/{file_id}' + ('/undelete' if undelete else '')
        status = cluster.request('POST' if undelete else 'DELETE', path,
                                 headers={'Hayloft-Delete-Token': token})[0]
        check_equal(status, 200 if undelete else 204, path)


def check_all(cluster, gateways, files, wanted, when):
    got = {gateway: {cluster.status_of(gateway, file_id) for file_id, _ in files}
           for gateway in gateways}
    check_equal(got, {gateway: {wanted} for gateway in gateways}, when)


def check_back(cluster, gateway, files, wanted):
    """From the second on after it reached a replica: here, after the first right answer."""
    wait_until(lambda: cluster.status_of(gateway, files[0][0], 5) == wanted,
               f'{gateway} hears of it', 15)
    time.sleep(DELETE_S)
    check_all(cluster, [gateway], files, wanted, f'{gateway} is back')


def test_a_gateway_that_was_cut_off_does_not_answer_what_was_deleted():
    """Its cable was out, then it was deaf to all dsps; others answered right all the time."""
    with CachesCluster() as cluster:
        cluster.up()
        files = hot_files(cluster)
        with cluster.unplugged(GATEWAYS['gateway-2']):
            change(cluster, files)
            time.sleep(DELETE_S)
            check_all(cluster, ['gateway-1', 'gateway-3'], files, 410, 'a second after the delete')
        check_back(cluster, 'gateway-2', files, 410)
        change(cluster, files, undelete=True)
        time.sleep(2 * DELETE_S)  # what is not there is remembered for a second
        check_all(cluster, GATEWAYS, files, 200, 'a second after the undelete')
        with cluster.deaf(*((dsp, GATEWAYS['gateway-3']) for dsp in DSPS)):
            change(cluster, files)
            time.sleep(DELETE_S)
            check_all(cluster, ['gateway-1', 'gateway-2'], files, 410, 'a second after the delete')
            # Who reaches no replica cannot know, and says so.
            answer = cluster.request('GET', '/' + files[0][0],
                                     address=cluster.addresses['gateway-3'], timeout=30)
            fine = answer[0] in (410, 503) or answer[1].get('Cache-Control') == 'no-cache'
            check(fine, lambda: f'without a replica: {answer[0]} {answer[1]}')
        check_back(cluster, 'gateway-3', files, 410)


def test_a_refilled_file_needs_no_nameserver():
    """What a gateway took over from others' memory after its start it is sure of as long as it
    reaches a dsp, though it never asked a nameserver for these files."""
    with CachesCluster() as cluster:
        cluster.up()
        files = hot_files(cluster)
        *others, back = cluster.gateways()

        def caches(gateway):
            return {file_id: cluster.request('GET', '/' + file_id, address=gateway['address'])[1]
                    .get('X-Cache') for file_id, _ in files}
        own = [file_id for file_id, how in caches(back).items() if how == 'hit']
        check(own, 'some of the files are its own')

        def others_take_over():
            wait_until(lambda: all(cluster.told(each, 'gateways') == len(others)
                                   for each in others), 'the others know that it is gone', 20)
            for each in others:
                caches(each)
        cluster.restart(back, others_take_over)
        back = cluster.gateways()[-1]
        wait_until(lambda: cluster.told(back, 'refilled_total') >= len(own), 'it has refilled', 20)
        with cluster.deaf((GATEWAYS[back['name']], 0)):
            for file_id in own:
                status, headers, _ = cluster.request('GET', '/' + file_id,
                                                     address=back['address'])
                told = (status, headers['X-Cache'], headers['Cache-Control'] == 'no-cache')
                check_equal(told, (200, 'hit', False), 'without a nameserver')


if __name__ == '__main__':
    if not enter_own_network():
        print('skipped: network namespaces are not allowed here')
    else:
        main([test_a_gateway_that_was_cut_off_does_not_answer_what_was_deleted,
              test_a_refilled_file_needs_no_nameserver])
