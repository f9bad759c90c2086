#!/usr/bin/python3
"""The pages for people in a real Chromium (Debian's, and therefore by Debian's Python)."""

import hashlib
import os

from browser import Browser, png_image
from harness import Cluster, check, check_equal, main

STATES = ('const all = [...document.querySelectorAll(".file")];'
          'return all.map(f => f.querySelector(".sha1")?.textContent ?? "");')


class Images:
    """Image files in a cluster's folder, by name."""

    def __init__(self, cluster, count):
        self.folder = os.path.join(cluster.dir, 'images')
        os.makedirs(self.folder, exist_ok=True)
        self.bytes = {f'image-{i}.png': png_image(i) for i in range(count)}
        self.paths = []
        for name, body in self.bytes.items():
            self.paths.append(os.path.join(self.folder, name))
            with open(self.paths[-1], 'wb') as file:
                file.write(body)

    def hashes(self):
        return [hashlib.sha1(body).hexdigest() for body in self.bytes.values()]


def uploaded(browser, count):
    browser.wait(f'document.getElementById("live").textContent.startsWith("{count} of {count} ")',
                 f'{count} uploads')


def test_fifty_images_by_drop():
    """They are stored; the page shows progress, thumbnails and hashes; keys delete and undo."""
    with Cluster(disks=1) as cluster, Browser() as browser:
        cluster.up()
        images = Images(cluster, 50)
        browser.open(f'http://{cluster.gateway}/')
        browser.drop('.drop', images.paths)
        uploaded(browser, 50)
        check_equal(browser.run(STATES), images.hashes(), 'the hashes that are shown')
        browser.screenshot('upload-light')
        browser.check_quiet()


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])
