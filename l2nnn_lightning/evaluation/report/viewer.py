"""The part of a page that shows samples: filtered, sorted, each with what an attack made of it."""

import base64
import io
import json
import math
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from l2nnn_lightning.evaluation.measure.results import Evaluation
from l2nnn_lightning.evaluation.report.gallery import choose_runs, to_pixels

__all__ = ["SCRIPT", "STYLE", "sample_viewer"]

# Bytes of pixels, before compression, of all images in a page.
_PIXELS = 16 * 2**20
_ACROSS = 100  # images in a row of an atlas

STYLE = """\
#filters label { margin-right: 1rem } #tiles { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1rem 0 }
#tiles figure, #large figure { margin: 0; font-size: .7rem; text-align: center; cursor: pointer }
#tiles figure.wrong { color: var(--bad) } canvas { image-rendering: pixelated; background: #000; display: block }
#large { display: flex; gap: 1rem; min-height: 12rem }
"""

SCRIPT = """\
const data = JSON.parse(document.getElementById('samples').textContent);
const atlas = document.getElementById('atlas'), made = document.getElementById('attacked');
const at = id => document.getElementById(id), SHOWN = 120;
function cell(source, i, size) {
  const canvas = document.createElement('canvas');
  canvas.width = data.width; canvas.height = data.height;
  canvas.style.width = size * data.width / Math.max(data.width, data.height) + 'px';
  const x = i % data.across * data.width, y = Math.floor(i / data.across) * data.height;
  canvas.getContext('2d').drawImage(source, x, y, data.width, data.height, 0, 0, data.width, data.height);
  return canvas;
}
function figure(canvas, text) {
  const box = document.createElement('figure'), caption = document.createElement('figcaption');
  caption.textContent = text; box.append(canvas, caption); return box;
}
function difference(i) {
  const a = cell(atlas, i, 160), b = cell(made, i, 160), context = a.getContext('2d');
  const one = context.getImageData(0, 0, data.width, data.height);
  const other = b.getContext('2d').getImageData(0, 0, data.width, data.height);
  for (let k = 0; k < one.data.length; k++)
    if (k % 4 < 3) one.data[k] = Math.max(0, Math.min(255, 128 + other.data[k] - one.data[k]));
  context.putImageData(one, 0, 0); return a;
}
function enlarge(i) {
  const box = at('large'), s = data.samples[i]; box.replaceChildren();
  const said = `${data.names[s[1]]}, as ${data.names[s[2]]}; gap ${s[3]}, radius ${s[4]}`;
  box.append(figure(cell(atlas, i, 160), `image ${s[0]}: ${said}`));
  if (!made) return;
  const verdict = s[5] ? `as ${data.names[s[7]] ?? '?'}, norm ${s[6]}` : 'not broken';
  box.append(figure(cell(made, i, 160), `${data.attack}: ${verdict}`));
  box.append(figure(difference(i), 'difference, around grey'));
}
function show() {
  const least = Number(at('gap').value), radius = Number(at('radius').value);
  let found = data.samples.map((s, i) => [s, i]).filter(([s]) =>
    (at('label').value === '' || s[1] == at('label').value) &&
    (at('prediction').value === '' || s[2] == at('prediction').value) && s[3] >= least &&
    (at('proven').value === '' || (s[1] == s[2] && s[4] > 0 && s[4] >= radius) == (at('proven').value === '1')) &&
    (at('broken').value === '' || s[5] == at('broken').value));
  const sign = at('order').value === 'largest' ? -1 : 1;
  if (at('order').value) found.sort((a, b) => sign * (a[0][3] - b[0][3]));
  at('count').textContent = `${found.length} of ${data.samples.length}` +
    (found.length > SHOWN ? `, the first ${SHOWN} shown` : '');
  at('tiles').replaceChildren(...found.slice(0, SHOWN).map(([s, i]) => {
    const box = figure(cell(atlas, i, 56), `${data.names[s[2]]} ${s[4]}`);
    if (s[1] != s[2]) box.className = 'wrong';
    box.onclick = () => enlarge(i); return box;
  }));
}
for (const input of document.querySelectorAll('#filters select, #filters input')) input.oninput = show;
addEventListener('load', show);
"""


def sample_viewer(evaluation: Evaluation) -> list[str]:
    """Return the parts of a page: filters, samples, and as data what they show; of many images the first ones."""
    records, attack = evaluation.records, next(reversed(choose_runs(evaluation)), None)
    channels, height, width = evaluation.images.shape[1:]
    each = (1 if attack is None else 2) * height * width * (1 if channels == 1 else 3)
    count = min(records.n, max(1, _PIXELS // each))
    broken = None if attack is None else records.attacks[attack.name]
    samples = []
    for i in range(count):
        sample: list[float | None] = [int(records.index[i]), int(records.label[i]), int(records.prediction[i])]
        sample += [round(float(records.gap[i]), 4), _down(records.proved[i])]
        if broken is not None:
            norm = float(broken.norm[i])
            to = None if broken.prediction is None else int(broken.prediction[i])
            sample += [int(broken.broken[i]), round(norm, 4) if math.isfinite(norm) else None, to]
        samples.append(sample)
    last = max(int(records.label.max()), int(records.prediction.max()), len(evaluation.label_names) - 1)
    data: dict[str, Any] = {
        "names": [evaluation.name(label) for label in range(last + 1)],
        "samples": samples,
        "attack": None if attack is None else attack.name,
        **{"width": width, "height": height, "across": _ACROSS},
    }
    # Within a script element only "</" would end it.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    names = "".join(f'<option value="{i}">{escape(name)}</option>' for i, name in enumerate(data["names"]))
    either = '<option value="">any</option><option value="1">yes</option><option value="0">no</option>'
    filters = [
        *(
            f'<label>{of} <select id="{of}"><option value="">any</option>{names}</select></label>'
            for of in ("label", "prediction")
        ),
        '<label>gap at least <input id="gap" type="number" value="0" min="0" step="0.1"></label>',
        f'<label>right and proven <select id="proven">{either}</select></label>',
        '<label>within <input id="radius" type="number" value="0" min="0" step="0.1"></label>',
        f'<label>broken <select id="broken">{either}</select></label>',
        '<label>order <select id="order"><option value="">as they are</option>'
        '<option value="largest">largest gap</option><option value="smallest">smallest gap</option></select></label>',
    ]
    pictures = [_atlas("atlas", evaluation.images[:count])]
    if attack is not None:
        pictures.append(_atlas("attacked", evaluation.attacked[attack.name][:count]))
    left = "" if count == records.n else f"<p>The first {count} of {records.n} images.</p>"
    return [
        f'<h2>Samples</h2>{left}<p id="filters">{"".join(filters)}<span id="count"></span></p>',
        '<div id="large"></div><div id="tiles"></div>',
        f'<div hidden>{"".join(pictures)}</div><script type="application/json" id="samples">{text}</script>',
    ]


def _atlas(name: str, images: Any) -> str:
    """Put images side by side into one PNG."""
    pixels = np.stack([np.rint(255 * to_pixels(image)).astype(np.uint8) for image in images])
    rows = math.ceil(len(pixels) / _ACROSS)
    across = min(len(pixels), _ACROSS)
    sheet: npt.NDArray[np.uint8] = np.zeros((rows * across, *pixels.shape[1:]), np.uint8)
    sheet[: len(pixels)] = pixels
    height, width = pixels.shape[1:3]
    grid = sheet.reshape(rows, across, height, width, -1).swapaxes(1, 2).reshape(rows * height, across * width, -1)
    file = io.BytesIO()
    Image.fromarray(grid.squeeze(2) if grid.shape[2] == 1 else grid).save(file, "PNG", compress_level=6)
    return f'<img id="{name}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _down(radius: float) -> float:
    """Round a radius down: what is shown is proved."""
    return math.floor(float(radius) * 1e4) / 1e4
