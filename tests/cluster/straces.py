"""Reading what strace wrote: which system call began and ended when, over all threads in order."""

import re
import signal
import subprocess
from collections import namedtuple

from harness import check, wait_until

# order: place of its beginning in the trace; ended: that of its end. Both count lines.
Call = namedtuple('Call', 'order ended name arguments result')

LINE = re.compile(r'^(?P<pid>\d+)\s+(?P<rest>.*)$')
WHOLE = re.compile(r'^(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\w+)')
BEGUN = re.compile(r'^(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>$')
RESUMED = re.compile(r'^<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\)\s+= (?P<result>-?\w+)')


class Strace:
    """`strace -f` on running processes, from entering to leaving the block."""

    def __init__(self, pids, output, *words):
        attach = [word for pid in pids for word in ('-p', str(pid))]
        self.output = output
        self.processes = len(pids)
        self.command = ['strace', '-f', '-yy', '-s', '300', '-o', output, *words, *attach]
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        for _ in range(self.processes):  # a line each; what one does before is not seen
            line = self.process.stderr.readline()
            check('attached' in line, lambda: f'strace attaches: {line!r}')
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            # A process that it watches executes itself anew while one of its threads is delayed:
            # each waits for the other. When strace is gone the process goes on.
            self.process.kill()
            self.process.communicate()

    def wait_for(self, wanted, what):
        """Until a call that `wanted` takes has ended: of one that has only begun, the end would
        not be written any more once strace is told to go."""
        wait_until(lambda: any(wanted(call) for call in read_trace(self.output)),
                   f'{what} in the trace')


def read_trace(path):
    """All finished calls, in the order in which they began."""
    calls, begun = [], {}
    with open(path, encoding='utf-8', errors='replace') as file:
        for order, line in enumerate(file):
            match = LINE.match(line.rstrip('\n'))
            if not match:
                continue
            pid, rest = match['pid'], match['rest']
            if whole := WHOLE.match(rest):
                calls.append(Call(order, order, *whole.group('name', 'arguments', 'result')))
            elif half := BEGUN.match(rest):
                begun[pid] = (order, half['name'], half['arguments'])
            elif (rest := RESUMED.match(rest)) and pid in begun:
                at, name, arguments = begun.pop(pid)
                calls.append(Call(at, order, name, arguments + rest['arguments'], rest['result']))
    return sorted(calls)
