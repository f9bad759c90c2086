#!/usr/bin/env python3
"""Draws what bench/cache_hits_bench --tsv=FILE has measured, with nothing but the standard library.

    cache_hits_plot.py FILE FOLDER     writes FOLDER/cache_hits.svg and FOLDER/cache_rules.svg
"""

import os
import sys

COLOURS = {'FIFO': '#999999', 'LRU': '#d95f02', 'S4LRU': '#7570b3', 'S3-FIFO': '#1b9e77'}
WIDTH, HEIGHT, LEFT, TOP = 250, 170, 46, 30  # of a panel, and its room for labels
FONT = 'font-family="sans-serif" font-size="11"'


def text(x, y, words, anchor='middle', more=''):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {FONT} {more}>{words}</text>'


class Panel:
    """Lines over evenly spaced steps; y is a share in percent."""

    def __init__(self, origin, title, steps, most):
        self.x, self.y, self.steps, self.most = origin[0] + LEFT, origin[1] + TOP, steps, most
        self.parts = [text(self.x + WIDTH / 2, self.y - 10, title, more='font-weight="bold"')]
        for percent in range(0, most + 1, 20):
            y = self.place(0, percent)[1]
            self.parts += [f'<line x1="{self.x}" x2="{self.x + WIDTH}" y1="{y:.0f}" y2="{y:.0f}" '
                           'stroke="#dddddd"/>', text(self.x - 6, y + 4, percent, 'end')]
        for i, step in enumerate(steps):
            self.parts.append(text(self.place(i, 0)[0], self.y + HEIGHT + 15, step))

    def place(self, step, percent):
        share = step / (len(self.steps) - 1)
        return self.x + 12 + share * (WIDTH - 24), self.y + HEIGHT * (1 - percent / self.most)

    def line(self, values, colour, dashes=''):
        points = [self.place(i, 100 * value) for i, value in enumerate(values)]
        joined = ' '.join(f'{x:.1f},{y:.1f}' for x, y in points)
        self.parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" '
                          f'stroke-width="2" stroke-dasharray="{dashes}"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
                       for x, y in points]


def legend(x, y, entries):
    parts = []
    for i, (name, colour, dashes) in enumerate(entries):
        at = x + i * 145
        parts += [f'<line x1="{at}" x2="{at + 24}" y1="{y}" y2="{y}" stroke="{colour}" '
                  f'stroke-width="2" stroke-dasharray="{dashes}"/>',
                  text(at + 30, y + 4, name, 'start')]
    return parts


def write(path, size, parts):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" '
                   f'viewBox="0 0 {size[0]} {size[1]}">\n'
                   f'<rect width="{size[0]}" height="{size[1]}" fill="white"/>\n')
        file.write('\n'.join(parts) + '\n</svg>\n')


def draw_policies(rows, path):
    settings = list(dict.fromkeys(row[0] for row in rows))
    shares = list(dict.fromkeys(row[1] for row in rows))
    parts = []
    for i, setting in enumerate(settings):
        panel = Panel(((i % 2) * 310, (i // 2) * 220), setting,
                      [f'{100 * float(share):.0f} %' for share in shares], 100)
        for policy, colour in COLOURS.items():
            panel.line([float(row[3]) for row in rows if row[0] == setting and row[2] == policy],
                       colour)
        parts += panel.parts
    parts += legend(LEFT, 472, [(name, colour, '') for name, colour in COLOURS.items()])
    words = "requests that miss, in %, by memory in % of a day's distinct images"
    parts.append(text(310, 450, words))
    write(path, (620, 490), parts)


def draw_rules(rows, path):
    """Hits by how long a block is open, with S3-FIFO, whoever asked."""
    mine = [row for row in rows if row[0] == 'S3-FIFO' and row[1] == '0']
    seconds = sorted({int(row[2]) for row in mine if row[2] != '0'})
    names = {120: '2 min', 3600: '1 h', 86400: '1 day', 864000: '10 days'}
    panel = Panel((0, 0), 'hits in % of requests, by how long a block is open',
                  [names[each] for each in seconds] + ['no rule'], 60)
    styles = (('filled on upload, too', '#1b9e77', ''), ('not on upload', '#d95f02', '5 3'))
    for on_upload, (_, colour, dashes) in zip('10', styles):
        by_open = {int(row[2]): float(row[4]) for row in mine if row[3] == on_upload}
        panel.line([by_open[each] for each in seconds + [0]], colour, dashes)
    write(path, (330, 250), panel.parts + legend(LEFT - 10, 236, styles))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding='utf-8') as file:
        rows = [line.rstrip('\n').split('\t') for line in file]
    draw_policies([row[1:] for row in rows if row[0] == 'policy'],
                  os.path.join(sys.argv[2], 'cache_hits.svg'))
    draw_rules([row[1:] for row in rows if row[0] == 'rules'],
               os.path.join(sys.argv[2], 'cache_rules.svg'))


if __name__ == '__main__':
    main()
