"""Part of the soak: real images, as a browser uploads and shows them."""

import glob
import hashlib
import os
import random
import struct
import urllib.parse

from browser import Browser, Site
from browser_test import announced, texts
from harness import Cluster, check_equal
from soak_promises import IMAGES, count_equal_downloads, curl_uploads, equal

DROPPED, SHOWN = 50, 500
# What became of each image of a page: its size, once its pixels were there, and its bytes' SHA-256.
LOOK = '''
const found = [];
for (const image of [...document.images].slice(...words)) {
  await image.decode();
  const bytes = await (await fetch(image.src, {cache: 'force-cache'})).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  found.push([image.naturalWidth, image.naturalHeight,
              [...hash].map(each => each.toString(16).padStart(2, '0')).join('')]);
}
return found;
'''


def body_of(path):
    with open(os.path.join(IMAGES, path), 'rb') as file:
        return file.read()


def look_of(path):
    body = body_of(path)
    return [*struct.unpack('>II', body[16:24]), hashlib.sha256(body).hexdigest()]


def dropped(cluster, browser, paths):
    """{path: id} of what was dropped on the page, which has found the hashes to be right."""
    browser.open(f'http://{cluster.gateway}/')
    browser.drop('.drop', [os.path.join(IMAGES, path) for path in paths])
    announced(browser, f'{len(paths)} of {len(paths)} uploaded')
    check_equal(texts(browser, '.sha1'), [hashlib.sha1(body_of(path)).hexdigest()
                                          for path in paths], 'SHA-1 on the page')
    check_equal(len(texts(browser, '.facts .good')), len(paths), 'checked by the page')
    links = browser.run('return [...document.querySelectorAll(".file a")].map(a => a.href);')
    ids = [os.path.splitext(urllib.parse.urlsplit(link).path)[0].lstrip('/') for link in links]
    return dict(zip(paths, ids))


def shown(cluster, browser, ids):
    """How many of a page's images the browser shows in their size, and has byte for byte."""
    page = ''.join(f'<img width=24 src="http://{cluster.gateway}/{each}.png">'
                   for each in ids.values())
    found = []
    with Site({'/': '<link rel=icon href="data:,">' + page}) as site:
        browser.open(f'http://127.0.0.1:{site.port}/')
        browser.wait('[...document.images].every(each => each.complete)', 'all are loaded')
        browser.screenshot('real-images')
        for first in range(0, len(ids), 50):  # a script has 30 s
            found += browser.promised(LOOK, first, first + 50)
    return sum(got == look_of(path) for path, got in zip(ids, found, strict=True))


def browser_images():
    """50 real images dropped on the page, 500 shown on one, in Chromium; equal afterwards."""
    paths = [os.path.relpath(path, IMAGES) for path in
             sorted(glob.glob(f'{IMAGES}/**/*.png', recursive=True)) if not os.path.islink(path)]
    chosen = random.sample(paths, DROPPED + SHOWN)
    with Cluster(directory_shards=0, disks=1) as cluster, Browser() as browser:
        cluster.up()
        by_drop = dropped(cluster, browser, chosen[:DROPPED])
        by_curl = curl_uploads(cluster, chosen[DROPPED:])
        figures = [equal('images dropped on the page, equal by HTTP',
                         count_equal_downloads(cluster, by_drop), DROPPED),
                   equal('images of a page, shown in their size and equal in the browser',
                         shown(cluster, browser, by_curl), SHOWN),
                   equal('complaints on the console', browser.complaints(), [])]
    return figures


PARTS = {part.__name__: part for part in (browser_images,)}
