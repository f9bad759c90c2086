// Shows what GET /v1/status tells, again every few seconds while somebody looks. When the gateway or
// the nameservers fall silent, what was known stays, and it is said how old it is.

import {bytesText, element} from './common.js';

const REFRESH_MS = 3000;
const ANSWER_MS = 5000;  // a gateway that takes longer does not answer
const OLD_MS = 10000;

const byId = (id) => document.getElementById(id);
const numberText = (number) => number.toLocaleString('en');

let last = null;      // the last answer
let lastAt = 0;       // when it came, by performance.now()
let complaint = '';   // why there is no newer one

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;  // else it would be read out again
}

function spanText(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// A figure with its name.
function tile(name, text, tone = '') {
  return element('div', {className: 'tile'}, element('span', {className: 'label'}, name),
      element('span', {className: `figure ${tone}`}, text));
}

// `tone` is that of any count but 0.
function countTile(name, count, tone = '') {
  return tile(name, numberText(count), count > 0 ? tone : '');
}

function tableRow(...cells) {
  const row = element('tr');
  cells.forEach((cell, i) => {
    const made = element(i === 0 ? 'th' : 'td', {}, cell);
    if (i === 0) made.scope = 'row';
    row.append(made);
  });
  return row;
}

const TONES = {up: 'good', active: 'good', standby: 'good', suspect: 'warn', draining: 'warn',
               down: 'bad', failed: 'bad'};
function stateText(state) {
  return element('span', {className: `state ${TONES[state] ?? 'warn'}`}, state);
}

function usedText(dsp) {
  if (dsp.bytes_total === 0) return '–';
  const meter = element('meter', {max: dsp.bytes_total, high: dsp.bytes_total * 0.9,
                                  value: dsp.bytes_used});
  meter.setAttribute('aria-label', `Space used on disk ${dsp.id}`);
  const percent = Math.round(100 * dsp.bytes_used / dsp.bytes_total);
  return element('span', {className: 'used'}, meter, ` ${bytesText(dsp.bytes_used)}, ${percent} %`);
}

function dspRow(dsp, ageMs) {
  const heard = dsp.silent_ms === null ? 'not yet' : `${spanText(dsp.silent_ms + ageMs)} ago`;
  const free = dsp.bytes_total === 0 ? '–' : bytesText(dsp.bytes_total - dsp.bytes_used);
  return tableRow(String(dsp.id), stateText(dsp.state), dsp.machine, dsp.zone || '–',
      element('span', {className: 'mono'}, dsp.address || '–'), heard, usedText(dsp), free,
      numberText(dsp.blocks));
}

function clusterTiles({files, blocks, dsps, needles_corrupt: corrupt}) {
  const up = dsps.filter((dsp) => dsp.state === 'up').length;
  const sum = (field) => dsps.reduce((all, dsp) => all + dsp[field], 0);
  return [
    countTile('Files', files.live),
    countTile('Deleted, in the trash', files.deleted),
    countTile('Files lost', files.lost, 'bad'),
    tile('Disks up', `${up} of ${dsps.length}`, up < dsps.length ? 'warn' : ''),
    tile(`used of ${bytesText(sum('bytes_total'))}`, bytesText(sum('bytes_used'))),
    countTile(`Blocks: ${numberText(blocks.open)} open, ${numberText(blocks.closed)} closed, ` +
              `${numberText(blocks.sealed)} sealed`, blocks.total),
    countTile('Blocks missing copies', blocks.under_replicated, 'warn'),
    countTile('Blocks on too few disks', blocks.short_of_members, 'warn'),
    countTile('Blocks without a copy', blocks.lost, 'bad'),
    countTile('Blocks that disagree', blocks.divergent, 'bad'),
    countTile('Reads that found damage', corrupt, 'warn'),
  ];
}

function gatewayTiles({version, ready, counters: c}) {
  const failed = c.http_answers_5xx_total;
  return [
    tile('Ready', ready ? 'yes' : 'no', ready ? 'good' : 'bad'),
    tile('Version', version),
    countTile('Connections', c.http_connections),
    countTile('Requests', c.http_requests_total),
    countTile('Uploads', c.uploads_total),
    tile('Uploaded', bytesText(c.upload_bytes_total)),
    countTile('Reads', c.reads_total),
    tile('Read', bytesText(c.read_bytes_total)),
    countTile('Revalidations (304)', c.revalidated_total),
    countTile('Deletes', c.deletes_total),
    countTile('Answers 4xx', c.http_answers_4xx_total),
    countTile('Answers 5xx', failed, 'warn'),
  ];
}

// In the order of what matters first.
function verdictOf(ageMs) {
  if (complaint !== '') return [complaint, 'bad'];
  const {cluster} = last;
  if (cluster === null) return ['No nameserver has answered this gateway yet.', 'bad'];
  if (ageMs > OLD_MS) return ['No nameserver answers. What is shown here is old.', 'bad'];
  if (cluster.blocks.lost > 0) {
    return ['Some files cannot be read: of some blocks no copy is up.', 'bad'];
  }
  if (!cluster.writable) return ['Reads work; there is no block for uploads.', 'bad'];
  if (cluster.blocks.under_replicated > 0) {
    return ['Uploads and reads work. Some blocks miss copies.', 'warn'];
  }
  if (cluster.dsps.some((dsp) => dsp.state !== 'up')) {
    return ['Uploads and reads work. Not all disks are up.', 'warn'];
  }
  return ['All is well: uploads and reads work.', 'good'];
}

function showAge() {
  const ageMs = last === null || last.age_ms === null ? 0 :
                last.age_ms + performance.now() - lastAt;
  const [words, tone] = last === null ? [complaint || 'Asking…', complaint ? 'bad' : ''] :
                        verdictOf(ageMs);
  setText(byId('verdict'), words);
  byId('verdict').className = `verdict ${tone}`;
  const told = last !== null && last.age_ms !== null;
  setText(byId('age'), told ? `As of ${spanText(ageMs)} ago.` : '');
  document.body.classList.toggle('old', complaint !== '' || ageMs > OLD_MS);
}

function show() {
  const {cluster, nameservers, gateway} = last;
  byId('nameservers').replaceChildren(...nameservers.map((each) => tableRow(
      element('span', {className: 'mono'}, each.address), stateText(each.role),
      each.role === 'down' ? '–' : String(each.epoch),
      each.role === 'down' ? '–' : each.in_sync ? 'yes' : 'no')));
  byId('gateway').replaceChildren(...gatewayTiles(gateway));
  if (cluster === null) return;
  byId('facts').replaceChildren(...clusterTiles(cluster));
  byId('dsps').replaceChildren(...cluster.dsps.map((dsp) => dspRow(dsp, last.age_ms)));
}

async function refresh() {
  try {
    const answer = await fetch('/v1/status', {signal: AbortSignal.timeout(ANSWER_MS)});
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    last = await answer.json();
    lastAt = performance.now();
    complaint = '';
    show();
  } catch (error) {
    complaint = `The gateway does not answer (${error.message}). What is shown here is old.`;
  }
  showAge();
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, REFRESH_MS);
}

setInterval(() => {
  if (last !== null) showAge();
}, 1000);
watch();
