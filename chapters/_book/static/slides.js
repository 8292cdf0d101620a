// Sets a table or a formula smaller where a slide cannot hold it, then starts reveal.js.

const WIDTH = 1280;
const HEIGHT = 720;
const SMALLEST = 0.5;

function fit(slide) {
  const growing = slide.querySelectorAll(".output, .formula");
  for (let percent = 95; percent >= 100 * SMALLEST && overflows(slide); percent -= 5)
    for (const part of growing) part.style.zoom = percent / 100;
}

function overflows(slide) {
  const wide = [...slide.querySelectorAll(".output, .formula")].some(
    (part) => part.scrollWidth > part.clientWidth + 1
  );
  return wide || slide.scrollHeight > HEIGHT + 1;
}

async function start() {
  await MathJax.startup.promise;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  await document.fonts.ready;
  document.querySelectorAll(".slides > section > section").forEach(fit);
  document.body.classList.remove("preparing");
  await Reveal.initialize({
    width: WIDTH,
    height: HEIGHT,
    margin: 0,
    center: false,
    hash: true,
    display: "flex",
    controls: false,
    slideNumber: "c/t",
    transition: "none",
    backgroundTransition: "none",
    plugins: [RevealNotes],
  });
}

window.slidesReady = start();
