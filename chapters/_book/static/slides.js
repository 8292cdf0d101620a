// Sets what a slide holds larger where there is room, and a table, a formula or an exercise
// smaller where there is not; then starts reveal.js.

const WIDTH = 1280;
const HEIGHT = 720;
const SMALLEST = 0.5;
const FOOT = 36; // where the number of the slide stands
const LARGEST = 1.3; // where no picture wants the room
const FITTED = ".output, .formula, .table, .exercise";

// The style sheet multiplies the sizes of text by --text, of what FITTED names by --fitted.
function fit(slide) {
  const largest = slide.querySelector("img") ? 1 : LARGEST;
  for (let percent = 100 * largest; percent >= 100 * SMALLEST; percent -= 5) {
    slide.style.setProperty("--text", Math.max(percent / 100, 1));
    slide.style.setProperty("--fitted", percent / 100);
    if (!overflows(slide)) return;
  }
}

function overflows(slide) {
  const wide = [...slide.querySelectorAll(`${FITTED}, .code`)].some(
    (part) => part.scrollWidth > part.clientWidth + 1
  );
  const top = slide.getBoundingClientRect().top;
  const high = [...slide.children].some(
    (part) => part.getBoundingClientRect().bottom - top > HEIGHT - FOOT
  );
  return wide || high;
}

async function start() {
  await MathJax.startup.promise;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  await Promise.all([...document.fonts].map((font) => font.load().catch(() => null)));
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
    pdfSeparateFragments: false,
    pdfMaxPagesPerSlide: 1,
    transition: "none",
    backgroundTransition: "none",
    plugins: [RevealNotes],
  });
}

window.slidesReady = start();
