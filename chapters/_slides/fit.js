// Cuts the slides to the canvas, then starts reveal.js.
//
// nbconvert hands over one <section> for each slide that the chapter's author meant. Here each is
// filled anew, cell by cell. A cell that no longer fits moves to a further slide below; a cell
// higher than a slide is cut between its paragraphs, list items, outputs or lines; what cannot be
// cut (a table, a formula) is set smaller, down to SMALLEST. Nothing is cut off.

const WIDTH = 1280;
const HEIGHT = 720;
const ROOM = 640; // for a slide's body: the canvas without margins and running title
const SMALLEST = 0.7; // for what cannot be cut
const TOGETHER = 0.8; // to keep an output with its code

// A cell as blocks: its text, or its code and then its outputs.
function parts(cell) {
  const text = cell.querySelector(".jp-RenderedMarkdown");
  if (cell.classList.contains("jp-MarkdownCell") && text) {
    return [block("text", [...text.childNodes].filter(worthKeeping))];
  }
  const code = cell.querySelector(".jp-Cell-inputWrapper .highlight pre");
  const outputs = cell.querySelectorAll(".jp-OutputArea-output");
  const shown = [...outputs].flatMap((output) => [...output.childNodes]).filter(worthKeeping);
  return [block("input", code ? [code] : []), block("output", shown)].filter(
    (made) => made.childNodes.length
  );
}

function worthKeeping(node) {
  return node.nodeType === Node.ELEMENT_NODE || node.textContent.trim() !== "";
}

function block(kind, nodes) {
  const made = document.createElement("div");
  made.className = kind;
  made.append(...nodes);
  return made;
}

// One <section> of nbconvert becomes one or more, appended to `stack`.
class Filler {
  constructor(stack, heading) {
    this.stack = stack;
    this.heading = heading;
    this.open();
  }

  open() {
    this.section = document.createElement("section");
    this.running = document.createElement("p");
    this.running.className = "running";
    this.running.textContent = this.heading;
    this.body = block("body", []);
    this.section.append(this.running, this.body);
    this.stack.append(this.section);
  }

  get empty() {
    return this.body.childNodes.length === 0;
  }

  fits() {
    return this.body.offsetHeight <= ROOM && this.body.scrollWidth <= this.body.clientWidth;
  }

  // Adds a cell's blocks, as a whole if a slide can hold them, else block by block.
  cell(blocks, fragment) {
    if (this.tries(blocks, fragment)) return;
    if (!this.empty) {
      this.open();
      if (this.tries(blocks, fragment)) return;
    }
    // Code and its output belong together if they need not become much smaller for it; a
    // figure rather has a slide of its own.
    const figure = blocks.some((one) => one.querySelector("img"));
    if (blocks.length > 1 && !figure && this.tries(blocks, fragment, TOGETHER)) return;
    for (const one of blocks) {
      if (this.tries([one], fragment)) continue;
      if (!this.empty) this.open();
      if (!this.tries([one], fragment)) this.cut(one);
    }
  }

  tries(blocks, fragment, smallest = 1) {
    const wrapper = block(fragment && !this.empty ? "cell fragment" : "cell", blocks);
    this.body.append(wrapper);
    if (this.shrinks(wrapper, smallest)) {
      this.note();
      return true;
    }
    wrapper.remove();
    return false;
  }

  shrinks(element, smallest) {
    for (let percent = 100; percent >= 100 * smallest; percent -= 5) {
      if (percent < 100) element.style.zoom = percent / 100;
      if (this.fits()) return true;
    }
    return false;
  }

  // Spreads a block that is higher than an empty slide.
  cut(large) {
    let into = this.shell(large);
    const queue = [...large.childNodes];
    while (queue.length) {
      const next = queue.shift();
      into.append(next);
      if (this.fits()) continue;
      next.remove();
      if (into.childNodes.length || into.parentNode !== this.body.firstChild) {
        const orphan = /^H[1-6]$/.test(into.lastChild?.tagName) ? into.lastChild : null;
        if (!orphan || into.childNodes.length > 1) {
          orphan?.remove();
          if (!into.childNodes.length) into.parentNode.remove();
          this.open();
          into = this.shell(large);
          queue.unshift(...[orphan, next].filter(Boolean));
          continue;
        }
      }
      const pieces = halves(next);
      if (pieces) queue.unshift(...pieces);
      else this.shrink(into, next);
    }
    this.note();
  }

  shell(like) {
    const made = block(like.className, []);
    this.body.append(block("cell", [made]));
    return made;
  }

  shrink(into, node) {
    const box = document.createElement("div");
    box.append(node);
    into.append(box);
    this.shrinks(box, SMALLEST);
  }

  // The running title tells where one is; a slide that begins with a heading says it itself.
  note() {
    const first = this.body.querySelector(".cell > * > *");
    if (first && /^H[1-3]$/.test(first.tagName)) this.running.textContent = "";
    const all = this.body.querySelectorAll("h1, h2, h3");
    if (all.length) this.heading = all[all.length - 1].textContent;
  }
}

// A list, a quotation or lines of text in two; null for what must stay whole.
function halves(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  if (node.matches("ul, ol, blockquote") && node.children.length > 1) {
    const second = node.cloneNode(false);
    const items = [...node.children];
    const middle = Math.ceil(items.length / 2);
    if (node.tagName === "OL") second.start = (node.start || 1) + middle;
    second.append(...items.slice(middle));
    return [node, second];
  }
  if (node.tagName === "PRE") {
    const lines = node.innerHTML.replace(/\n$/, "").split("\n");
    if (lines.length < 2 || /<span[^>]*>[^<]*\n/.test(node.innerHTML)) return null;
    const second = node.cloneNode(false);
    const middle = Math.ceil(lines.length / 2);
    node.innerHTML = lines.slice(0, middle).join("\n");
    second.innerHTML = lines.slice(middle).join("\n");
    return [node, second];
  }
  if (node.matches("div") && node.children.length > 1) return [...node.children];
  if (node.matches("div") && node.children.length === 1) return halves(node.firstElementChild);
  return null;
}

function cut(slides) {
  const stacks = [...slides.children];
  slides.replaceChildren();
  let heading = "";
  for (const old of stacks) {
    const stack = document.createElement("section");
    slides.replaceChildren(stack); // what is being filled is all there is to lay out
    for (const leaf of old.querySelectorAll(":scope > section")) {
      const filler = new Filler(stack, heading);
      for (const cell of leaf.querySelectorAll(".jp-Cell")) {
        const notes = cell.closest("aside.notes");
        if (notes) filler.section.append(speech(cell));
        else filler.cell(parts(cell), cell.closest(".fragment") !== null);
      }
      heading = filler.heading;
      if (filler.empty) filler.section.remove();
    }
    old.replaceWith(stack);
    old.result = stack;
  }
  slides.replaceChildren(...stacks.map((old) => old.result).filter((made) => made.children.length));
}

function speech(cell) {
  const aside = document.createElement("aside");
  aside.className = "notes";
  aside.append(...cell.querySelector(".jp-RenderedMarkdown").childNodes);
  return aside;
}

async function start() {
  const slides = document.querySelector(".reveal .slides");
  for (const extra of slides.querySelectorAll("style, script, a.anchor-link")) extra.remove();
  await MathJax.startup.promise;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  await document.fonts.ready;
  cut(slides);
  await document.fonts.ready;
  document.body.classList.remove("preparing");
  await Reveal.initialize({
    width: WIDTH,
    height: HEIGHT,
    margin: 0,
    center: false,
    hash: true,
    slideNumber: "c/t",
    transition: "none",
    backgroundTransition: "none",
    plugins: [RevealNotes],
  });
}

window.slidesReady = start();
