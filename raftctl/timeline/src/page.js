// Zoom, pan and the note beside the pointer. Without it the page shows the whole record.
(() => {
  const plot = document.getElementById('plot');
  const root = plot.ownerSVGElement;
  const axis = document.getElementById('axis');
  const labels = [...document.querySelectorAll('#labels text')];
  const tip = document.getElementById('tip');
  const left = plot.x.baseVal.value, width = plot.width.baseVal.value;
  const whole = plot.viewBox.baseVal.width, height = plot.viewBox.baseVal.height;
  const start = Number(plot.dataset.start);
  let view = { from: 0, length: whole };
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
  const svg = (name, attributes, text) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const clock = (ms, step) => {
    const at = new Date(start + ms).toISOString();
    return step >= 1000 ? at.slice(11, 19) : at.slice(11, 23);
  };
  const draw = () => {
    plot.setAttribute('viewBox', `${view.from} 0 ${view.length} ${height}`);
    const place = (ms) => left + (ms - view.from) / view.length * width;
    const step = steps.find((step) => view.length / step <= 11) ?? view.length / 10;
    axis.replaceChildren();
    const first = Math.ceil((start + view.from) / step) * step - start;
    for (let at = first; at <= view.from + view.length; at += step) {
      const x = place(at);
      axis.append(svg('line', { x1: x, x2: x, y1: 24, y2: 30 + height, class: 'rule' }));
      axis.append(svg('text', { x, y: 18, 'text-anchor': 'middle', class: 'soft' }, clock(at, step)));
    }
    for (const label of labels) {
      const from = Math.max(Number(label.dataset.from), view.from);
      const until = Math.min(Number(label.dataset.until), view.from + view.length);
      const room = place(until) - place(from);
      label.style.display = room > 44 ? '' : 'none';
      label.setAttribute('x', place(from) + 6);
    }
  };
  const show = (from, length) => {
    length = Math.min(Math.max(length, 0.5), whole);
    view = { from: Math.min(Math.max(from, 0), whole - length), length };
    draw();
  };
  const zoom = (factor, part) => show(view.from + view.length * part * (1 - factor), view.length * factor);
  const part = (event) => {
    const box = root.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * root.viewBox.baseVal.width;
    return Math.min(Math.max((x - left) / width, 0), 1);
  };
  root.addEventListener('wheel', (event) => {
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      show(view.from + (event.deltaX || event.deltaY) / 800 * view.length, view.length);
    } else {
      zoom(Math.exp(event.deltaY / 400), part(event));
    }
  }, { passive: false });
  let drag = null;
  root.addEventListener('pointerdown', (event) => { drag = { at: part(event), from: view.from, moved: false }; });
  addEventListener('pointermove', (event) => {
    if (drag) {
      const by = part(event) - drag.at;
      if (Math.abs(by) > 0.003) drag.moved = true;
      if (drag.moved) show(drag.from - by * view.length, view.length);
    }
    const over = event.target.closest?.('[data-says]');
    tip.style.display = over && !drag?.moved ? 'block' : 'none';
    if (over) {
      tip.textContent = over.dataset.says;
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 340)}px`;
      tip.style.top = `${event.clientY + 16}px`;
    }
  });
  addEventListener('pointerup', () => { const moved = drag?.moved; drag = null; if (moved) addEventListener('click', (event) => event.preventDefault(), { once: true, capture: true }); });
  addEventListener('keydown', (event) => {
    const keys = { '+': () => zoom(0.6, 0.5), '-': () => zoom(1 / 0.6, 0.5), '0': () => show(0, whole),
      ArrowLeft: () => show(view.from - view.length / 8, view.length), ArrowRight: () => show(view.from + view.length / 8, view.length) };
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
  for (const button of document.querySelectorAll('[data-zoom]')) {
    button.addEventListener('click', () => button.dataset.zoom === '0' ? show(0, whole) : zoom(Number(button.dataset.zoom), 0.5));
  }
  show(...plot.dataset.opens.split(' ').map(Number));
})();
